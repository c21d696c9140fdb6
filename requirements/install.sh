#!/bin/sh
# Installs one hash-checked lock into /opt/venv of an image, leaving neither pip nor a cache nor what a server never uses.
#
#   sh install.sh NAME.lock
#
# It runs in each image's build, once per layer; the same lock on the same base gives the same layer, which is built,
# stored and pulled once for all images that have it.
set -eu
lock="$(dirname "$0")/$1"
tool="$(mktemp -d)"
venv=/opt/venv/bin/python

python3 -m venv "$tool"
touch "$tool/began"
# Wheels only: nothing that was downloaded runs during the build.
"$tool/bin/pip" --python "$venv" install --quiet --no-cache-dir --no-compile --disable-pip-version-check \
  --root-user-action ignore --only-binary :all: --require-hashes -r "$lock"
"$tool/bin/pip" --python "$venv" check

packages="$("$venv" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
cd "$packages"

# Tests of the libraries, and sources that only matter for compiling against them.
find . -type d \( -name tests -o -path ./joblib/test -o -path ./onnx/backend/test \) -prune -exec rm -rf {} +
find . -type f \( -name '*.pyx' -o -name '*.pxi' -o -name '*.pxd' -o -name '*.pyi' -o -name '*.a' \) -delete
rm -rf pyarrow/include pyarrow/src

# Arrow's RPC and its own S3 client: our storage is obstore.
rm -rf pyarrow/*_flight* pyarrow/*_s3* pyarrow/_flight* pyarrow/_s3fs*
# Notebook widgets: reports are static pages.
rm -rf plotly/labextension plotly/package_data/widgetbundle.js ../../../etc/jupyter ../../../share/jupyter
# Helpers for converting transformers, command lines and samples.
rm -rf onnxruntime/transformers onnxruntime/tools onnxruntime/datasets
# Typed clients and models, loaded on demand and never used: the dynamic client is.
for each in kubernetes/client kubernetes/aio/client; do
  rm -rf "$each/api"
  if [ -d "$each/models" ]; then find "$each/models" -name '*.py' ! -name __init__.py -delete; fi
done

# Bytecode of what is new here, checked by nobody at run time: containers have a read-only root and another user.
find . -mindepth 1 -maxdepth 1 -cnewer "$tool/began" ! -name '*.dist-info' ! -name '*.libs' \
  -exec "$venv" -m compileall -q -j 0 --invalidation-mode unchecked-hash {} +
rm -rf "$tool"
