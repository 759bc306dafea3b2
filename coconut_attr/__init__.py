"""Visual-attribute labels from COCONut annotations, and a model that predicts them.

The pipeline, stage by stage, is one package each:

    annotations  read panoptic masks and captions of a dataset from the hub or a Kaggle folder
    download     fetch the photos that they name
    labels       turn masks, pixels and captions into evidence, and evidence into labels
    training     train the model on the labels
    evaluation   score its predictions, with intervals and baselines
    model        the network, its checkpoints, and `predict` for new photos
    export       write labels as COCO, Parquet or Hugging Face datasets, and mirrors of a dataset

Beside them, `files` decodes photos and writes files atomically, `check` verifies a dataset, and
`cli` is the command line. `attributes`, `datasets`, `findings`, `errors` and `settings` are shared
by all. This package knows no database: `db` stores what it produces, `flows` schedules it, and
`dashboard` shows it.
"""
