"""The allocator settings that `elastic` makes for itself (crates/cli/src/process.rs), as glibc reads them at start."""

ELASTIC = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_TOP_PAD_": str(64 << 20),
}
