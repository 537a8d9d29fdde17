#!/bin/sh
# Runs a job of `pricing` for an entry point of MLproject. `mlflow run --env-manager local` does not put the python that
# runs mlflow on PATH, so `.venv/bin/mlflow run .` from a plain shell would find another one, or none. The first that
# has what training needs: the one on PATH (an activated environment, or the one that mlflow made), the one that runs
# mlflow, this checkout's .venv.
parent=$( (tr '\0' '\n' < "/proc/$PPID/cmdline" || ps -o command= -p "$PPID" | tr ' ' '\n') 2>/dev/null | head -n 1)
for python in python "$parent" .venv/bin/python; do
  if "$python" -c 'import importlib.util as u, sys; sys.exit(not (u.find_spec("mlflow") and u.find_spec("keras")))' 2>/dev/null; then
    exec "$python" -m pricing.runtime.command "$@"
  fi
done
echo "error: no python with the training packages; run 'make install' here, or use 'mlflow run --env-manager uv'" >&2
exit 2
