# Source it in bash on a machine with torch, in any folder: unpacks the project beside its wheels, and stands in its tree.
# TREE=… chooses where (default: a new temporary folder), PYTHON=… the Python that has torch (default: python3).
packed=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tree=${TREE:-$(mktemp -d)} python=${PYTHON:-python3}
mkdir -p "$tree/motionops" "$tree/site"
"$python" -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])' "$packed/project.tar.xz" "$tree/motionops"
if ls "$packed"/whl/*.whl > /dev/null 2>&1; then
  "$python" -m pip install -q --no-index --no-deps --no-compile --upgrade --target "$tree/site" "$packed"/whl/*.whl
fi
export PYTHONPATH=$tree/motionops:$tree/site${PYTHONPATH:+:$PYTHONPATH}
cd "$tree/motionops" && "$python" -c 'import motionops; print("motionops in", motionops.__path__[0], "CUDA operators:", motionops.has_cuda())'
