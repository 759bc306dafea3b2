"""Types of the flows' parameters: the Prefect server refuses other values at once, and its UI offers the right ones."""

from typing import Annotated, Any

from pydantic import Field

from coconut_attr.datasets import DATASETS
from coconut_attr.model.backbones.catalogue import BACKBONES
from coconut_attr.training.config import AUTO, PROFILES


def one_of(*names: str) -> Any:
    """A field whose schema lists the values. What the library is given beside the schema, it checks itself."""
    return Field(json_schema_extra={"enum": list(names)})


DatasetName = Annotated[str, one_of(*DATASETS)]
ProfileName = Annotated[str, one_of(*PROFILES)]
BackboneName = Annotated[str, one_of(AUTO, *BACKBONES)]
Positive = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]  # what NumPy takes
LearningRate = Annotated[float, Field(gt=0)]
