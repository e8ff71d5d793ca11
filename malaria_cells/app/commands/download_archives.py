"""The public data sets that ``download`` knows, with their addresses."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Archive:
    """A public data set in one zip file.

    Attributes:
        url: address of the archive.
        marker: a file or folder of the unpacked data set; its parent folder becomes the data set's folder.
        about: one line on content, size and terms.
        next_step: command to run after the download.
        extras: addresses of additional files, by their names in the data set's folder.
        rules: page on which Kaggle's rules must be accepted; such an archive needs a token. None: it is not on Kaggle.
    """

    url: str
    marker: str
    about: str
    next_step: str
    extras: dict[str, str] = field(default_factory=dict)
    rules: str | None = None


ARCHIVES = {
    "bbbc041": Archive(
        "https://data.broadinstitute.org/bbbc/BBBC041/malaria.zip",
        "training.json",
        "BBBC041: fields of P. vivax smears, boxed cells of six classes, CC BY-NC-SA 3.0 (Ljosa et al. 2012)",
        "python train.py --config=config.yaml",
    ),
    "iml": Archive(
        "https://codeload.github.com/QaziAmmar/"
        "A-Dataset-and-Benchmark-for-Malaria-Life-Cycle-Classification-in-Thin-Blood-Smear-Images/zip/refs/heads/main",
        "annotations.json",
        "IML-Malaria: fields of P. vivax smears, boxed cells of five classes, published for research (arXiv:2102.08708)",
        "python train.py --config=configs/iml.yaml",
    ),
    "nih": Archive(
        "https://data.lhncbc.nlm.nih.gov/public/Malaria/cell_images.zip",
        "Parasitized",
        "NIH malaria cells: 27,558 images of single cells, infected or not, P. falciparum, public domain (Rajaraman et al. 2018)",
        "python train.py --config=configs/nih.yaml",
    ),
    "ena24": Archive(
        "https://storage.googleapis.com/public-datasets-lila/ena24/ena24.zip",
        "annotations.json",
        "ENA24: 10,000 camera-trap images, boxed animals of 23 species, CDLA-permissive (Yousif et al. 2019); 3.6 GB",
        "python train.py --config=configs/ena24.yaml",
        extras={"annotations.json": "https://storage.googleapis.com/public-datasets-lila/ena24/ena24.json"},
    ),
    "bccd": Archive(
        "https://codeload.github.com/Shenggan/BCCD_Dataset/zip/refs/heads/master",
        "Annotations",
        "BCCD: 364 fields of blood, boxed red and white cells and platelets, MIT (github.com/Shenggan/BCCD_Dataset)",
        "python train.py --config=configs/bccd.yaml",
    ),
    "pneumonia": Archive(
        "https://data.mendeley.com/public-files/datasets/rscbjbr9sj/files/f12eaf6d-6023-432f-acc9-80c9d7393433/file_downloaded",
        "train",
        "Chest X-rays: 5,856 images, normal or pneumonia, CC BY 4.0 (Kermany et al. 2018, doi 10.17632/rscbjbr9sj.2); 1.2 GB",
        "python train.py --config=configs/pneumonia.yaml",
    ),
    "cassava": Archive(
        "https://www.kaggle.com/api/v1/competitions/data/download-all/cassava-leaf-disease-classification",
        "train.csv",
        "Cassava leaves: 21,397 images of five classes; needs a Kaggle token (Mwebaze et al. 2019); 6 GB",
        "python train.py --config=configs/cassava.yaml",
        rules="https://www.kaggle.com/competitions/cassava-leaf-disease-classification/rules",
    ),
}
