"""The datasets that the product knows, each declared once."""

from dataclasses import dataclass
from typing import Final

from coconut_attr.errors import UserError

COCO_IMAGES: Final = "http://images.cocodataset.org/"
_CAPTIONS_ZIP: Final = COCO_IMAGES + "annotations/annotations_trainval2017.zip"
_UNLABELED_ZIP: Final = COCO_IMAGES + "annotations/image_info_unlabeled2017.zip"


@dataclass(frozen=True)
class CocoFile:
    """A JSON of COCO's: its zip, its name there, and the URL folder of the photos that it lists."""

    archive: str
    member: str
    photos: str
    has_captions: bool = True


VAL2017: Final = CocoFile(
    _CAPTIONS_ZIP, "annotations/captions_val2017.json", COCO_IMAGES + "val2017/"
)
TRAIN2017: Final = CocoFile(
    _CAPTIONS_ZIP, "annotations/captions_train2017.json", COCO_IMAGES + "train2017/"
)
UNLABELED2017: Final = CocoFile(
    _UNLABELED_ZIP,
    "annotations/image_info_unlabeled2017.json",
    COCO_IMAGES + "unlabeled2017/",
    has_captions=False,
)
#: COCONut-PanCap on the hub, by the names that the setting `pancap` takes.
PANCAP_REPOS: Final = {
    "hub": "xdeng77/coconut_pancap",
    "hub-50k": "xdeng77/coconut_pancap_50k",
}


@dataclass(frozen=True)
class Dataset:
    """Where one dataset comes from and how much of it there should be.

    Attributes:
        name: name used by deployments, the command line and SQL.
        title: name for people.
        repos: Hugging Face dataset repositories of the panoptic masks (parquet).
        tar_repos: those whose masks are in a tar beside a JSON.
        former_repos: those that older databases of this dataset were read from. Their annotations
            stand: the present ones hold the same.
        image_hosts: hosts that image URLs may point to; others are refused.
        coco_files: COCO's own files about its photos: names, sizes, licences, URLs, captions.
        kaggle_name: name of the dataset's folder and file in COCONut's Kaggle layout.
        expected_images, expected_segments: counts that upstream states (None: not stated).
        has_objects365: some of its photos are of Objects365, from a folder that the user names.
        is_coconut: False for the offline photographs that stand in for the dataset.
        licence: of the annotations; each image carries its own.
    """

    name: str
    title: str
    repos: tuple[str, ...] = ()
    tar_repos: tuple[str, ...] = ()
    former_repos: tuple[str, ...] = ()
    image_hosts: tuple[str, ...] = ("images.cocodataset.org",)
    coco_files: tuple[CocoFile, ...] = ()
    kaggle_name: str = ""
    expected_images: int | None = None
    expected_segments: int | None = None
    is_coconut: bool = True
    has_objects365: bool = False
    licence: str = "COCONut annotations: non-commercial research; COCO captions: CC BY 4.0"

    @property
    def mask_folder(self) -> str:
        """Return the folder of its panoptic PNGs, relative to the data folder."""
        return f"annotations/{self.name}/panoptic"

    @property
    def hub_repos(self) -> tuple[str, ...]:
        """Return all its repositories on the hub."""
        return self.repos + self.tar_repos

    @property
    def has_masks(self) -> bool:
        """Return whether it has panoptic annotations."""
        return bool(self.hub_repos)

    @property
    def photo_folders(self) -> tuple[str, ...]:
        """Return the URL folders that its photos lie in."""
        return tuple(dict.fromkeys(file.photos for file in self.coco_files))


_ENTRIES = (
    Dataset(
        name="val5k",
        title="COCONut relabelled COCO-val",
        repos=("xdeng77/relabeled_coco_val",),
        coco_files=(VAL2017,),
        kaggle_name="relabeled_coco_val",
        expected_images=5_000,
        expected_segments=67_000,
    ),
    Dataset(
        name="coconut-s",
        title="COCONut-S",
        repos=("xdeng77/coconut_s",),
        coco_files=(TRAIN2017,),
        kaggle_name="coconut_s",
        expected_images=118_000,
        expected_segments=1_540_000,
    ),
    Dataset(
        name="coconut-b",
        title="COCONut-B",
        repos=("xdeng77/coconut_b",),
        former_repos=("xdeng77/coconut_s",),
        coco_files=(TRAIN2017, UNLABELED2017),
        kaggle_name="coconut_b",
        expected_images=242_000,
        expected_segments=2_780_000,
    ),
    Dataset(
        name="coconut-l",
        title="COCONut-L",
        repos=("xdeng77/coconut_b",),
        tar_repos=("xdeng77/coconut_large",),
        coco_files=(TRAIN2017, UNLABELED2017),
        kaggle_name="coconut_l",
        expected_images=358_000,
        expected_segments=4_750_000,
        has_objects365=True,
    ),
    Dataset(
        name="coconut-val",
        title="COCONut-val",
        tar_repos=("xdeng77/coconut_val",),
        coco_files=(VAL2017,),
        kaggle_name="coconut_val",
        expected_images=25_500,
        expected_segments=437_000,
        has_objects365=True,
    ),
    Dataset(
        name="sample",
        title="Photographs of the scikit-image wheel (NOT COCONut)",
        image_hosts=(),
        is_coconut=False,
        licence="see https://github.com/scikit-image/scikit-image/blob/main/LICENSE.txt",
    ),
)

DATASETS: Final[dict[str, Dataset]] = {entry.name: entry for entry in _ENTRIES}


class UnknownDatasetError(UserError):
    """There is no dataset of that name."""


def get_dataset(name: str) -> Dataset:
    """Return the dataset of that name.

    Raises:
        UnknownDatasetError: there is none; the message lists the known ones.
    """
    if name not in DATASETS:
        raise UnknownDatasetError(f"unknown dataset {name!r}; choose one of: {', '.join(DATASETS)}")
    return DATASETS[name]
