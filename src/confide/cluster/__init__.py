"""Work on a Ray cluster: blocks go to workers with a model each, and records come back as a folder of Parquet files."""

from confide.cluster.answering import annotate_on_ray
from confide.cluster.ray_cluster import Cluster, ray_cluster
from confide.cluster.reading import check_read_on_ray, score_on_ray

__all__ = ["Cluster", "annotate_on_ray", "check_read_on_ray", "ray_cluster", "score_on_ray"]
