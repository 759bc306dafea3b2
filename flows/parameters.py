"""Types of the flows' parameters.

The Prefect server refuses other values before a run starts, and its UI lists the valid ones.
"""

from typing import Annotated, Any

from pydantic import Field

from coconut_attr.datasets import DATASETS
from coconut_attr.model.backbones.names import BACKBONES
from coconut_attr.training.config import AUTO, PROFILES


def one_of(*names: str) -> Any:
    """Return a field whose schema lists the valid values.

    It does not check them: a flow that is called without the server gets the library's message.
    """
    return Field(json_schema_extra={"enum": list(names)})


DatasetName = Annotated[str, one_of(*DATASETS)]
ProfileName = Annotated[str, one_of(*PROFILES)]
BackboneName = Annotated[str, one_of(AUTO, *BACKBONES)]
Positive = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]  # the range of NumPy's seeds
LearningRate = Annotated[float, Field(gt=0)]
