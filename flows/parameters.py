"""Types of the flows' parameters, and the names of flow runs that are made of them.

The Prefect server refuses other values before a run starts, and its UI lists the valid ones.
"""

from typing import Annotated, Any

from prefect.runtime import flow_run
from pydantic import Field

from coconut_attr.datasets import DATASETS
from coconut_attr.model.backbones.names import BACKBONES
from coconut_attr.training.config import AUTO, PROFILES


def one_of(*names: str) -> Any:
    """Return a field whose schema lists the valid values.

    It does not check them: a flow that is called without the server gets the library's message.
    """
    return Field(json_schema_extra={"enum": list(names)})


def run_name() -> str:
    """Name a flow run by its flow and dataset, or by the run that it resumes."""
    parameters = flow_run.parameters
    resumed = parameters.get("resume")
    of = f"run {resumed}" if resumed else parameters.get("dataset") or "val5k"
    return f"{flow_run.flow_name} {of}"


DatasetName = Annotated[str, one_of(*DATASETS)]
ProfileName = Annotated[str, one_of(*PROFILES)]
BackboneName = Annotated[str, one_of(AUTO, *BACKBONES)]
Positive = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]  # the range of NumPy's seeds
LearningRate = Annotated[float, Field(gt=0)]
