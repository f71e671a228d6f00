"""The Chinese of README.zh-CN.md that stands in generated tables, by the English that it renders.

A text that is changed in English is English in the Chinese page until it is written here anew;
`tests/test_front.py` names it.
"""

TEXTS = {
    # titles
    "1. Feature space": "1. 特征空间",
    "2. Zero-shot classification": "2. 零样本分类",
    "3. Semantic segmentation without training": "3. 免训练语义分割",
    "4. Cross-modal retrieval": "4. 跨模态检索",
    "5. Depth estimation": "5. 深度估计",
    "6. Anomaly detection": "6. 异常检测",
    "7. Guided diffusion": "7. 引导扩散生成",
    # questions
    "What does DINOv2 see in a picture?": "DINOv2 在一张图里看到了什么？",
    "How do you name things with a model that has never read a word?": (
        "一个从没读过文字的模型，怎样说出物体的名字？"
    ),
    "Where in the picture is the thing, if nobody ever drew it?": (
        "没有人画过轮廓，怎样知道物体在图中哪里？"
    ),
    "How do you find a picture: by a picture, by words, or by both?": (
        "找一张图：用图、用文字，还是两者一起用？"
    ),
    "How far away is it, from one picture?": "只凭一张图，怎样看出东西有多远？",
    "What is wrong with this part, if you have only ever seen good ones?": (
        "只见过合格品，怎样看出这个零件哪里有毛病？"
    ),
    "Can a picture steer a model that draws from words?": ("一张图能左右一个按文字作画的模型吗？"),
    # what the pictures show
    "Queries and their nearest neighbours": "查询图片及其最近邻",
    "DINOv2 names toys by words": "DINOv2 借助文字说出玩具的名称",
    "Toys cut out of their scenes, with and without DINOv2": (
        "从场景中抠出的玩具：用 DINOv2 与不用 DINOv2"
    ),
    "Queries in words and the pictures that they find": "文字查询与找到的图片",
    "A scene, its depth by three methods under one rule": (
        "一个场景，以及三种方法在同一规则下得到的深度"
    ),
    "Flaws and where the detector sees them": "瑕疵，以及检测器认为瑕疵所在的位置",
    "Targets; the same prompts and seeds without and with a guide": (
        "目标图；相同提示词和随机种子下，无引导与有引导的结果"
    ),
    # verdicts
    "holds": "成立",
    "holds in part": "部分成立",
    "does not hold": "不成立",
    # claims
    "The same object from another viewpoint has close features": "换个视角看同一物体，特征仍然接近",
    "Features are robust to lighting and occlusion": "光照变了、物体被挡住一部分，特征依然稳定",
    "Early layers hold texture, late layers concepts": "浅层表示纹理，深层表示概念",
    "A t-SNE of three pictures shows their similarity": "只画三张图的 t-SNE，就能看出它们像不像",
    (
        "The cosine of DINOv2 image features and CLIP text features classifies without training, "
        "unknown classes too"
    ): "拿 DINOv2 图像特征与 CLIP 文本特征算余弦，不训练就能分类，没见过的类别也行",
    (
        "64 channels of the last hidden state are an attention head; their mean similarity segments"
    ): "最后一层输出的 64 个通道就是一个注意力头，它们的平均相似度可以用来分割",
    "Post-processing by a CRF refines the edges of the segmentation": "用 CRF 后处理，分割边缘更准",
    "Combining several attention heads improves the segmentation": "把几个注意力头合起来，分割更好",
    "Adding low-level visual features improves the segmentation": (
        "加入颜色、纹理等低层特征，分割更好"
    ),
    "Fusing CLIP features adds 15-30 % accuracy": "融合 CLIP 特征，检索准确率提高 15-30 %",
    "HNSW is 10-100x faster": "用 HNSW 索引，查询快 10-100 倍",
    "PQ saves 4-8x memory": "用 PQ 量化，能省 4-8 倍内存",
    "Geometric consistency improves depth": "加上几何一致性约束，深度更准",
    "Real depth data instead of pseudo depth improves the head": (
        "用真实深度代替伪深度来训练，深度头更准"
    ),
    "Multi-scale features (several layers) improve depth": "用多尺度（多层）特征，深度更准",
    "An MLP on the image feature, trained 100 steps against Sobel edges, estimates depth": (
        "以 Sobel 边缘作标签，在整图特征上训练一个 MLP 共 100 步，就能估计深度"
    ),
    "Finds anomalies by feature reconstruction": "靠重构特征找出异常",
    "Needs no anomalous samples": "训练时不需要异常样本",
    "Cheap enough for real time": "计算量小，够得上实时",
    "Has some power on unseen kinds of anomalies": "对没见过的异常类型也有一定的检测能力",
    "The article's function guides Stable Diffusion by DINOv2 features": (
        "文章里的函数能用 DINOv2 特征引导 Stable Diffusion"
    ),
    "It can be used to make design material after a picture": "可以照着一张图生成设计素材",
    "Guidance is needed in the first half of the steps only": "只需在前一半步骤里引导",
    "It can be used for personalised images": "可以用来生成个性化图像",
    "A strength that is too strong damages the picture": "引导太强会损坏画质",
    "It can be used for style transfer": "可以用来做风格迁移",
    "A strength of 0.3 to 0.7 is usually right": "引导强度通常取 0.3 到 0.7 合适",
    "A strength that is too weak has no obvious effect": "引导太弱，效果不明显",
}


def word(text: str) -> str:
    """The Chinese for an English text of the course, or that text while there is none."""
    return TEXTS.get(text, text)
