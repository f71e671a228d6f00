#!/usr/bin/env bash
# Three trainings on a lent GPU, within 12 minutes: dinov2-tiny again with hues turned on half of
# the crops, from the present weights; then clip-tiny; then the UNet of diffusion-tiny, which reads
# with that clip-tiny. Nothing can be rendered there, so pictures are carried as JPEG:
#
#     python -m training.pack runs/pairs runs/packed      # before, where there are pictures
#     OUT=results bash training/gpu.sh                      # there
#
# A training that its time cuts short still leaves its model. Each result is a folder in $OUT: model,
# log and nothing larger than 16 MB. One that fails is named in $OUT/failed and stops no other.
# RECIPE=trial takes a few steps of each, on any machine.
set -uo pipefail

PACKED=${PACKED:-runs/packed}
OUT=${OUT:-runs/gpu/results}
WORK=${WORK:-runs/gpu}
PYTHON=${PYTHON:-python}
RECIPE=${RECIPE:-gpu}
# Minutes after which each training is cut short; with unpacking and loading they stay below 12.
DINOV2_MINUTES=${DINOV2_MINUTES:-4.75}
CLIP_MINUTES=${CLIP_MINUTES:-4.75}
DIFFUSION_MINUTES=${DIFFUSION_MINUTES:-1}
# Steps that should fit into them, so that the learning rates come down: dinov2-tiny took 0.15 s a
# step on such a machine; the others' are estimates, so look at the first times in their logs.
CLIP_STEPS=${CLIP_STEPS:-2500}  # of the transformer, after 3,000 of the guide
DIFFUSION_STEPS=${DIFFUSION_STEPS:-3000}
LARGEST=16000000  # bytes of a file that comes back

mkdir -p "$OUT" "$WORK"
rm -f "$OUT/failed"

# note NAME COMMAND...: run a command, say how long it took, and note it if it fails.
note() {
  local name=$1 begin=$SECONDS
  shift
  if "$@" > "$OUT/$name.out" 2>&1; then
    echo "$name: $((SECONDS - begin)) s"
  else
    echo "$name: failed after $((SECONDS - begin)) s, see $name.out" | tee -a "$OUT/failed"
    tail -n 5 "$OUT/$name.out"
  fi
}

# keep NAME: bring home the model and the log of a run, but no file that is too large.
keep() {
  mkdir -p "$OUT/$1"
  cp -r "$WORK/$1/model" "$WORK/$1/log.jsonl" "$OUT/$1/" 2>> "$OUT/failed"
  find "$OUT/$1" -type f -size "+${LARGEST}c" -print -delete | sed 's/^/too large: /' | tee -a "$OUT/failed"
}

note unpack "$PYTHON" -m training.pack "$PACKED" "$WORK/pairs" --unpack

dinov2=(--recipe recolour --start data/models/dinov2-tiny --monitor)
clip=(--recipe gpu --steps "$CLIP_STEPS")
diffusion=(--recipe gpu --steps "$DIFFUSION_STEPS")
if [ "$RECIPE" = trial ]; then
  dinov2=(--recipe trial) clip=(--recipe trial) diffusion=(--recipe trial)
fi
note dinov2 "$PYTHON" -m training.dinov2.train --material "$WORK/pairs" "${dinov2[@]}" \
  --minutes "$DINOV2_MINUTES" --out "$WORK/dinov2"
keep dinov2

note clip "$PYTHON" -m training.clip.train --material "$WORK/pairs" "${clip[@]}" \
  --minutes "$CLIP_MINUTES" --out "$WORK/clip"
keep clip

# The autoencoder needs no GPU, and no UNet: it can be trained at home (--stage autoencoder).
note diffusion "$PYTHON" -m training.diffusion.train --material "$WORK/pairs" "${diffusion[@]}" \
  --stage denoiser --clip "$WORK/clip/model" --minutes "$DIFFUSION_MINUTES" --out "$WORK/diffusion"
keep diffusion

[ -s "$OUT/failed" ] && exit 1
rm -f "$OUT/failed"
echo "done in $SECONDS s"
