#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Everything that needs a GPU (run.py): run.sh [--help]
exec "${PYTHON:-python3}" "$(dirname "$0")/run.py" "$@"
