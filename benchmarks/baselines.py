"""Other engines for the same trees, each timed in a process of an environment that has it: ONNX Runtime, and C compiled from the trees.

The process reads a line for each measurement, a file of rows and how often to predict them, and prints the seconds of one prediction. It
imports nothing of ours, for its environment has nothing of ours. One thread each, as for everybody.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

REQUIREMENTS = ("numpy", "onnx", "onnxruntime", "treelite", "tl2cgen")
ENVIRONMENT = "baselines"
READY_S = 300.0  # for a C compiler with thousands of lines

Predict = Callable[[Any], Any]


class Baseline:
    """One of BASELINES, ready in its process."""

    def __init__(self, process: "subprocess.Popen[str]", label: str) -> None:
        self._process = process
        self.label = label

    def seconds(self, rows: Path, calls: int) -> float:
        """Return the seconds of one prediction of the rows in an .npy file, the mean of `calls`."""
        return float(self._asked({"rows": str(rows), "calls": calls}))

    def scores(self, rows: Path) -> Any:
        """Return the probabilities of the rows in an .npy file."""
        return self._asked({"rows": str(rows), "calls": 0})

    def _asked(self, question: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(question), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.label} ended")
        return json.loads(line)


@contextlib.contextmanager
def running(python: Path, name: str, model: Path, trees: Path) -> Iterator[Baseline]:
    """Start a baseline; `model`: a booster as UBJ, `trees`: arrays of kernels.trees.ensemble as .npz. Raises RuntimeError."""
    with tempfile.TemporaryFile("w+") as log, tempfile.TemporaryDirectory(prefix="bench-baseline-") as scratch:
        command = [str(part) for part in (python, "-m", "benchmarks.baselines", name, model, trees, scratch)]
        root = Path(__file__).resolve().parent.parent
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, cwd=root) as process:
            try:
                assert process.stdout is not None
                label = process.stdout.readline()
                if not label:
                    process.wait(READY_S)
                    log.seek(0)
                    raise RuntimeError(f"{name}: {log.read().strip()[-500:]}")
                yield Baseline(process, label.strip())
            finally:
                process.kill()


def onnx_runtime(model: Path, trees: Path, scratch: Path) -> tuple[str, Predict]:
    """Return ONNX Runtime on a TreeEnsembleRegressor and a Sigmoid."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(_graph(dict(np.load(trees))), options, providers=["CPUExecutionProvider"])
    return f"ONNX Runtime {onnxruntime.__version__}", lambda X: session.run(None, {"X": X})[0].ravel()


def compiled_c(model: Path, trees: Path, scratch: Path) -> tuple[str, Predict]:
    """Return Treelite's trees as C by TL2cgen, compiled by gcc: the class of compilers that lleaves belongs to."""
    import tl2cgen
    import treelite

    library = scratch / "trees.so"
    tl2cgen.export_lib(treelite.frontend.load_xgboost_model(model), toolchain="gcc", libpath=library, params={"parallel_comp": 8})
    predictor = tl2cgen.Predictor(library, nthread=1)
    return f"TL2cgen {tl2cgen.__version__}", lambda X: predictor.predict(tl2cgen.DMatrix(X)).ravel()


BASELINES: dict[str, Callable[[Path, Path, Path], tuple[str, Predict]]] = {"onnxruntime": onnx_runtime, "tl2cgen": compiled_c}


def _graph(trees: dict[str, Any]) -> bytes:
    """Return the trees as an ONNX model: float32 X [n, columns] to probabilities [n, 1]."""
    from onnx import TensorProto, helper

    roots, feature, left = trees["roots"], trees["feature"], trees["left"]
    tree = np.repeat(np.arange(len(roots) - 1), np.diff(roots))
    first = roots[tree]
    split, leaf = np.flatnonzero(feature >= 0), np.flatnonzero(feature < 0)
    child = np.where(feature >= 0, left - first, 0)
    base = float(trees["base"][0])
    ensemble = helper.make_node(
        "TreeEnsembleRegressor",
        ["X"],
        ["margin"],
        domain="ai.onnx.ml",
        n_targets=1,
        base_values=[base],
        nodes_treeids=tree.tolist(),
        nodes_nodeids=(np.arange(len(tree)) - first).tolist(),
        nodes_featureids=np.maximum(feature, 0).tolist(),
        nodes_values=trees["threshold"].astype(float).tolist(),
        nodes_modes=np.where(feature >= 0, "BRANCH_LT", "LEAF").tolist(),
        nodes_truenodeids=child.tolist(),
        nodes_falsenodeids=np.where(feature >= 0, child + 1, 0).tolist(),
        nodes_missing_value_tracks_true=(trees["missing_left"] & (feature >= 0)).astype(int).tolist(),
        target_treeids=tree[leaf].tolist(),
        target_nodeids=(leaf - first[leaf]).tolist(),
        target_ids=[0] * len(leaf),
        target_weights=trees["value"][leaf].astype(float).tolist(),
    )
    assert len(split) + len(leaf) == len(tree)
    columns = int(trees["columns"])
    graph = helper.make_graph(
        [ensemble, helper.make_node("Sigmoid", ["margin"], ["probability"])],
        "trees",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, columns])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, [None, 1])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    serialized: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
    return serialized


def main() -> None:
    """Answer one line after the other."""
    name, model, trees, scratch = sys.argv[1], *map(Path, sys.argv[2:5])
    out, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
    label, predict = BASELINES[name](model, trees, scratch)
    print(label, file=out, flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        X, calls = np.load(question["rows"]), question["calls"]
        predict(X)
        began = time.perf_counter()
        for _ in range(calls):
            predict(X)
        took = time.perf_counter() - began
        print(json.dumps(took / calls if calls else predict(X).tolist()), file=out, flush=True)


if __name__ == "__main__":
    main()
