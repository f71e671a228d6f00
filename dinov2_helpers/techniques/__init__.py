"""The seven techniques as objects to keep: fit them, ask them, save them, load them tomorrow.

They follow scikit-learn's habits: settings in the constructor, `fit` returns the object itself,
what was learned ends in an underscore. Pictures go in as `extract_features` takes them, or as the
features that it returned.
"""

from .anomaly import AnomalyDetector, AnomalyScores
from .conformal import ConformalThreshold, threshold
from .depth import DepthHead
from .depth_scale import align_depth
from .guidance import Guide
from .keeping import KeptError
from .neighbours import KnnClassifier, correspondences, pca_rgb, search
from .pointcloud import Camera, focal_of_photo, to_points
from .refine import DenseCrf, GuidedFilter
from .retrieval import ImageIndex
from .segmentation import Segmenter
from .zero_shot import Bridge, FewShot, ZeroShot

__all__ = [
    "AnomalyDetector",
    "AnomalyScores",
    "Bridge",
    "Camera",
    "ConformalThreshold",
    "DenseCrf",
    "DepthHead",
    "FewShot",
    "Guide",
    "GuidedFilter",
    "ImageIndex",
    "KeptError",
    "KnnClassifier",
    "Segmenter",
    "ZeroShot",
    "align_depth",
    "correspondences",
    "focal_of_photo",
    "pca_rgb",
    "search",
    "threshold",
    "to_points",
]
