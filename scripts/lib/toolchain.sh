# Sourced by the other scripts: where the toolchain lies, and the environment that CMake reads. Runs nothing that takes
# time. Set by the user: ESPALIER_CACHE (where to keep the toolchain), ESPALIER_TORCH (an installed LibTorch), CUDACXX
# (an installed nvcc).

ESPALIER_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
espalier_cache=${ESPALIER_CACHE:-${XDG_CACHE_HOME:-${HOME:?}/.cache}/espalier}

# What an earlier script of ours exported is not a choice of the user's.
if [[ ${ESPALIER_TORCH-} == "$espalier_cache"/toolchain-* ]]; then unset ESPALIER_TORCH; fi
if [[ ${CUDACXX-} == "$espalier_cache"/toolchain-* ]]; then unset CUDACXX CUDAToolkit_ROOT CUDA_TOOLKIT_ROOT_DIR; fi

# The requirements less what the user brings: with ESPALIER_TORCH only CMake is left, with CUDACXX no CUDA compiler.
espalier_requirements() {
  local drop='^$'
  if [[ -n ${ESPALIER_TORCH-} ]]; then
    awk '/^[a-z]/ {keep = /^cmake==/} /^#/ || keep' "$ESPALIER_ROOT/scripts/requirements.txt"
    return
  elif [[ -n ${CUDACXX-} ]]; then
    drop='^(nvidia-cuda-nvcc|nvidia-cuda-crt|nvidia-cuda-cccl|nvidia-nvvm)=='
    awk -v drop="$drop" '/^[a-z]/ {keep = $0 !~ drop} /^#/ || keep' "$ESPALIER_ROOT/scripts/requirements.txt"
    return
  fi
  cat "$ESPALIER_ROOT/scripts/requirements.txt"
}

espalier_hash=$(espalier_requirements | sha256sum)
ESPALIER_TOOLCHAIN=$espalier_cache/toolchain-${espalier_hash:0:16}

# Exports what CMake and the tests read; to be called once the toolchain is complete.
espalier_environment() {
  local site
  site=$(echo "$ESPALIER_TOOLCHAIN"/lib/python3.*/site-packages)
  export ESPALIER_TOOLCHAIN ESPALIER_PYTHON="$ESPALIER_TOOLCHAIN/bin/python"
  # The wheel's own binaries: the commands that pip puts into bin/ start a Python first.
  export PATH="$site/cmake/data/bin:$PATH"
  if [[ -z ${ESPALIER_TORCH-} ]]; then
    export ESPALIER_TORCH=$site/torch
    if [[ -z ${CUDACXX-} ]]; then
      export CUDACXX=$site/nvidia/cu13/bin/nvcc
      export CUDAToolkit_ROOT=$site/nvidia/cu13 CUDA_TOOLKIT_ROOT_DIR=$site/nvidia/cu13
    fi
  fi
  # For third-party projects that use LibTorch's own CMake files: these look for a GPU otherwise, and fail where there
  # is none.
  export TORCH_CUDA_ARCH_LIST=${TORCH_CUDA_ARCH_LIST:-8.0;9.0;10.0+PTX}
  # Two clones share what ccache keeps.
  export CCACHE_BASEDIR=${CCACHE_BASEDIR:-$ESPALIER_ROOT} CCACHE_NOHASHDIR=1
}

# Sets `environment` to a virtual environment of a script's own, and makes it first where it is not there.
#   espalier_venv NAME WHAT PYTHON [PIP_OPTION...] -r PINS...
# NAME begins the folder's name, and WHAT names what is installed. With the Python of the toolchain, the environment
# sees the PyTorch and the NumPy there.
espalier_venv() {
  local name=$1 what=$2 python=$3 hash option sites
  shift 3
  hash=$(for option; do [[ ! -f $option ]] || cat "$option"; done | sha256sum)
  environment=$espalier_cache/$name-${hash:0:16}
  [[ ! -e $environment/complete ]] || return 0
  echo "Installing $what into $environment" >&2
  "$python" -m venv "$environment"
  "$environment/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: "$@"
  if [[ $python == "$ESPALIER_TOOLCHAIN"/* ]]; then
    sites=$(echo "$environment"/lib/python3.*/site-packages)
    echo "$ESPALIER_TOOLCHAIN"/lib/python3.*/site-packages >"$sites/torch.pth"
  fi
  touch "$environment/complete"
}
