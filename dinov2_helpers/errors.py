"""Errors that several parts raise, where nothing heavy has to be imported to catch them."""


class KeptError(Exception):
    """A folder without an object of the wanted kind, or with one that does not fit the model.

    Example:
        >>> from dinov2_helpers import load_dinov2
        >>> from dinov2_helpers.techniques import AnomalyDetector
        >>> try:
        ...     AnomalyDetector.load("holiday", load_dinov2("tiny"))
        ... except KeptError as error:
        ...     print(error)
        holiday holds no anomaly-detector: there is no anomaly-detector.json in it
    """
