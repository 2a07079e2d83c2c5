#!/usr/bin/env python3
"""Whether the crates of `elastic export --emit burn` run in WebAssembly, and give there the logits that the supernet gave.

    rustup target add wasm32-unknown-unknown
    python3 -m venv VENV && VENV/bin/pip install wasmtime numpy
    VENV/bin/python benches/graphs/webassembly.py FOLDER exports/NAME-burn ...

Around each crate a library is written in FOLDER that runs one batch, with the code of the crate's own test; it is built, loaded in
wasmtime, and given the inputs of that test. burn names functions of JavaScript that a run never calls: a call would end it.
`--cargo` is what builds, for a toolchain elsewhere: `--cargo "chroot ROOT cargo"`.
"""

import argparse
import re
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy
import wasmtime

TARGET = "wasm32-unknown-unknown"
RUNS = 100

MANIFEST = """\
[package]
name = "in-webassembly"
version = "0.1.0"
edition = "2024"

[lib]
crate-type = ["cdylib"]

[dependencies]
{name} = {{ path = "{crate}" }}

[profile.release]
panic = "abort"
strip = true

[workspace]
"""

LIBRARY = """\
include!("test.rs");

#[unsafe(no_mangle)]
pub extern "C" fn model() -> *const Model {
    Box::into_raw(Box::new(Model::default()))
}

/// Room for so many values.
#[unsafe(no_mangle)]
pub extern "C" fn room(values: usize) -> *mut f32 {
    vec![0.0f32; values].leak().as_mut_ptr()
}

/// Runs one batch; its logits take the place of the first values.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn run(model: *const Model, values: *mut f32, count: usize) {
    let (model, values) = unsafe { (&*model, std::slice::from_raw_parts_mut(values, count)) };
    let logits = logits(model, values.to_vec(), &Device::default()).into_data().try_to_vec::<f32>().expect("floats");
    values[..logits.len()].copy_from_slice(&logits);
}
"""


def build(folder, crate, cargo):
    """The WebAssembly of a crate."""
    name = re.search(r'^name = "(.+)"', (crate / "Cargo.toml").read_text(), re.MULTILINE)[1]
    test = (crate / "tests/logits.rs").read_text()
    (folder / "src").mkdir(parents=True, exist_ok=True)
    (folder / "Cargo.toml").write_text(MANIFEST.format(name=name, crate=crate))
    (folder / "src/lib.rs").write_text(LIBRARY)
    (folder / "src/test.rs").write_text("".join(line for line in test.splitlines(True) if not line.startswith("//!")))
    manifest = str(folder / "Cargo.toml")
    subprocess.run([*shlex.split(cargo), "build", "--release", "--target", TARGET, "--manifest-path", manifest], check=True)
    return folder / f"target/{TARGET}/release/in_webassembly.wasm"


def compare(wasm, crate):
    """The largest difference of a logit, and the median time of a run in milliseconds."""
    batches = re.search(r"inputs\.chunks\((\d+)\)", (crate / "tests/logits.rs").read_text())
    inputs = numpy.fromfile(crate / "tests/inputs.f32", "<f4").reshape(-1, int(batches[1]))
    expected = numpy.fromfile(crate / "tests/logits.f32", "<f4").reshape(len(inputs), -1)
    engine = wasmtime.Engine()
    module, store, linker = wasmtime.Module.from_file(engine, str(wasm)), wasmtime.Store(engine), wasmtime.Linker(engine)
    linker.define_unknown_imports_as_traps(module)
    exports = linker.instantiate(store, module).exports(store)
    memory, model = exports["memory"], exports["model"](store)
    count = max(inputs.shape[1], expected.shape[1])
    values = exports["room"](store, count)
    worst, times = 0.0, []
    for number in range(max(RUNS, len(inputs))):
        index = number % len(inputs)
        memory.write(store, inputs[index].tobytes(), values)
        start = time.perf_counter()
        exports["run"](store, model, values, count)
        times.append(time.perf_counter() - start)
        logits = numpy.frombuffer(memory.read(store, values, values + 4 * expected.shape[1]), "<f4")
        worst = max(worst, float(numpy.abs(logits - expected[index]).max()))
    return worst, 1e3 * statistics.median(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the libraries are built")
    parser.add_argument("crates", type=Path, nargs="+")
    parser.add_argument("--cargo", default="cargo")
    arguments = parser.parse_args()
    print("| crate | WebAssembly | a run | largest difference of a logit |\n|---|---:|---:|---:|")
    for crate in arguments.crates:
        wasm = build(arguments.folder.resolve(), crate.resolve(), arguments.cargo)
        worst, median = compare(wasm, crate)
        print(f"| {crate.name} | {wasm.stat().st_size / 1e6:.2f} MB | {median:.2f} ms | {worst:.1e} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
