//! The data that flows along the line: plain values, no input or output.
//! Each file holds one noun; nothing here depends on another module of the crate.

mod bytes;
mod cancel;
mod capture;
mod checkpoint;
mod child;
mod comparison;
mod contents;
mod config_key;
mod date;
mod elf_file;
mod empty;
mod finding;
mod forms;
mod hardening;
mod level;
mod map;
mod memory;
mod metric;
mod name;
mod object;
mod plan;
mod ranges;
mod region;
mod report;
mod revision;
mod role;
mod room;
mod scaling;
mod series;
mod snapshot;
mod syscall;
mod tree;
mod unsteady;
mod waiver;
mod workspace;

pub use bytes::{ByteSize, ByteSizeError};
pub use cancel::Cancel;
pub use capture::{Capture, FinishedStack, KeptCapture, PageRun, PatchedPage, Recording, Status, Thread};
pub use checkpoint::{At, CheckpointSpec, Every, StepSpec, Stream, SyscallAt, ThreadEdge, Touched};
pub use child::ChildName;
pub use comparison::{CaseComparison, Comparison, Escaped, Gone, Planted, Presence, Side};
pub use config_key::ConfigKey;
pub use contents::{Contents, FoundString};
pub use date::Date;
pub use elf_file::{ElfFile, Fortify, machine_name};
pub use empty::{EmptyCost, EmptyProgram};
pub use finding::{Finding, Standing};
pub use hardening::{ElfKey, ElfPattern, ElfResult, ElfRule, ElfWanted, Hardened};
pub use level::{CaptureLevel, Reading};
pub use map::{
    ArenaFact, ArenaUse, Confidence, Evidence, HeapFact, Item, MallocFact, MemoryMap, Note, Piece, ProcessTotals, RoleSum,
    StackState, ThreadFact,
};
pub use memory::{Memory, Wanted};
pub use metric::{Metric, MetricError, ProcessMeasure, RoleMeasure, Subject, Tier, Unit};
pub use name::Name;
pub use object::{Class, ElfFacts, ElfType, Hardening, Object, ObjectKind, Relro, Segment, SegmentKind};
pub use plan::{
    AfterLast, Alone, Binary, Bound, Case, Children, Defaults, ExpectedEnd, Growth, GrowthBound, LaunchLimits, Limit, MatrixRun,
    Over, Place, Plan, Profile, SNAPSHOT_DIR, SnapshotElf, SnapshotOptions, Stdin, Target, TargetKind, UnmetPolicy,
    environment_file,
};
pub use ranges::Ranges;
pub use region::{Perms, Region, Usage, UsageDetail, VmFlags};
pub use report::{
    AppliedSetting, CapturesFile, CaseReport, Change, ChangeCause, CheckpointReport, End, Environment, EnvironmentStatus,
    LimitResult, Outcome, OutputTail, Problem, ProblemKind, RunReport, Shard, SnapshotOutcome, SnapshotStatus, Verdict,
};
pub use revision::{Job, Revised, RevisedKind, Revision, Switch};
pub use role::{Allocator, Role};
pub use room::Room;
pub use scaling::{Knee, Line, MIN_RUNS, Sample, Scaling};
pub use series::{Direction, MIN_ROUNDS, Series, Trend};
pub use snapshot::{Cell, Row, RowKey, Snapshot, State};
pub use syscall::{syscall_names, syscall_number};
pub use tree::{TreeMeasure, TreeTotals};
pub use unsteady::UnsteadyCell;
pub use waiver::{Waived, Waiver, WaiverResult, WaiverStatus, WaiverUse};
pub use workspace::{Package, PackageTarget, Workspace};
