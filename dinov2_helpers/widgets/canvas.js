// Draws a picture and what was chosen in it, and writes what is done to it into `value`.

const COLOUR = "#e69f00"; // orange of Okabe and Ito, as in the figures
const STEP = 4; // pixels that an arrow key moves the end of a line

function clamp(value, most) {
  return Math.max(0, Math.min(most, Math.round(value)));
}

// Each kind: how it is marked, and what a pointer or a key makes of its value.
const KINDS = {
  spot: {
    mark(context, value, [width, height], [rows, columns]) {
      const [row, column] = value;
      const [w, h] = [width / columns, height / rows];
      context.strokeRect(column * w, row * h, w, h);
    },
    press(x, y, [width, height], [rows, columns]) {
      const row = clamp(Math.floor((y * rows) / height), rows - 1);
      const column = clamp(Math.floor((x * columns) / width), columns - 1);
      return [row, column];
    },
    drag: null,
    key([row, column], [right, down], shift, size, [rows, columns]) {
      return [clamp(row + down, rows - 1), clamp(column + right, columns - 1)];
    },
    say: ([row, column]) => `row ${row}, column ${column}`,
  },
  scratch: {
    mark(context, [x0, y0, x1, y1]) {
      context.beginPath();
      context.moveTo(x0, y0);
      context.lineTo(x1, y1);
      context.stroke();
    },
    press(x, y, [width, height]) {
      const [left, top] = [clamp(x, width - 1), clamp(y, height - 1)];
      return [left, top, left, top];
    },
    drag([x0, y0], x, y, [width, height]) {
      return [x0, y0, clamp(x, width - 1), clamp(y, height - 1)];
    },
    key(value, [right, down], shift, [width, height]) {
      const moved = [...value];
      const end = shift ? 0 : 2;
      moved[end] = clamp(moved[end] + STEP * right, width - 1);
      moved[end + 1] = clamp(moved[end + 1] + STEP * down, height - 1);
      return moved;
    },
    say: ([x0, y0, x1, y1]) => `a line from ${x0}, ${y0} to ${x1}, ${y1}`,
  },
};

const ARROWS = {
  ArrowRight: [1, 0],
  ArrowLeft: [-1, 0],
  ArrowDown: [0, 1],
  ArrowUp: [0, -1],
};

function render({ model, el }) {
  const kind = KINDS[model.get("kind")];
  const size = model.get("size");
  const grid = model.get("grid");
  const [width, height] = size;

  const label = document.createElement("div");
  label.textContent = model.get("description");
  label.style.cssText = "margin: 4px 0; line-height: 1.4";
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "application"); // arrow keys are for it, not for the notebook
  canvas.style.cssText = "cursor: crosshair; display: block; max-width: 100%; touch-action: none";
  const spoken = document.createElement("div");
  spoken.setAttribute("aria-live", "polite");
  spoken.style.cssText =
    "position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%)";
  el.replaceChildren(label, canvas, spoken);

  const context = canvas.getContext("2d");
  const image = new Image();
  let value = model.get("value"); // as it is shown; the model's follows when a drag has ended

  function draw() {
    context.drawImage(image, 0, 0, width, height);
    for (const [colour, thickness] of [["#000000", 5], [COLOUR, 3]]) {
      context.strokeStyle = colour;
      context.lineWidth = thickness;
      kind.mark(context, value, size, grid);
    }
    canvas.setAttribute("aria-label", `${model.get("description")}: ${kind.say(value)}`);
  }

  function report() {
    spoken.textContent = kind.say(value);
    model.set("value", value);
    model.save_changes();
  }

  function place(event) {
    const box = canvas.getBoundingClientRect();
    const x = ((event.clientX - box.left) * width) / box.width;
    const y = ((event.clientY - box.top) * height) / box.height;
    return [x, y];
  }

  let dragging = false;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.focus();
    canvas.setPointerCapture(event.pointerId);
    dragging = true;
    value = kind.press(...place(event), size, grid);
    draw();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (dragging && kind.drag) {
      value = kind.drag(value, ...place(event), size);
      draw();
    }
  });
  canvas.addEventListener("pointerup", () => {
    if (dragging) {
      dragging = false;
      report();
    }
  });
  canvas.addEventListener("pointercancel", () => {
    dragging = false;
    value = model.get("value");
    draw();
  });
  canvas.addEventListener("keydown", (event) => {
    const direction = ARROWS[event.key];
    if (!direction) {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
    value = kind.key(value, direction, event.shiftKey, size, grid);
    draw();
    report();
  });

  function follow() {
    value = model.get("value");
    draw();
  }
  model.on("change:value", follow);
  image.onload = draw;
  image.src = model.get("picture");
  return () => model.off("change:value", follow);
}

export default { render };
