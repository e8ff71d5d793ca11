"""Detection of large archives on a Ray cluster, in numbered parts that are written once.

In: images of a folder, a list or an object store, and a detector. Out: Parquet tables of cells, counts and failures, and the way back.
"""

PART_IMAGES = 100  # images that are written together unless the run says otherwise; here, where --help finds it without libraries
