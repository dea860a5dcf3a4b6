"""Sample folders, memory maps, labels and sets of samples."""

from barnum.samples.effects import MAX_EFFECTS, Effect, Effects, read_effects, write_effects
from barnum.samples.folder import (
    Process,
    Sample,
    Stream,
    find_samples,
    folders_of,
    is_sample,
    open_samples,
    samples_in,
)
from barnum.samples.info import BENIGN, LABELS, MALICIOUS, UNKNOWN, Info, read_info, write_info
from barnum.samples.listing import Listed, list_samples
from barnum.samples.mapping import MemoryMap, Module, Region
from barnum.samples.meta import (
    Engine,
    ExitStatus,
    Image,
    KindName,
    LimitsMeta,
    Meta,
    ProcessMeta,
    SandboxMeta,
    SpawnMeta,
    StreamMeta,
    checked_kind,
    read_meta,
    write_meta,
)
from barnum.samples.named import folder_named
from barnum.samples.sets import Sets, read_sets, sets_content, write_sets

__all__ = [
    "BENIGN",
    "LABELS",
    "MALICIOUS",
    "MAX_EFFECTS",
    "UNKNOWN",
    "Effect",
    "Effects",
    "Engine",
    "ExitStatus",
    "Image",
    "Info",
    "KindName",
    "LimitsMeta",
    "Listed",
    "MemoryMap",
    "Meta",
    "Module",
    "Process",
    "ProcessMeta",
    "Region",
    "Sample",
    "SandboxMeta",
    "Sets",
    "SpawnMeta",
    "Stream",
    "StreamMeta",
    "checked_kind",
    "find_samples",
    "folder_named",
    "folders_of",
    "is_sample",
    "list_samples",
    "open_samples",
    "read_effects",
    "read_info",
    "read_meta",
    "read_sets",
    "samples_in",
    "sets_content",
    "write_effects",
    "write_info",
    "write_meta",
    "write_sets",
]
