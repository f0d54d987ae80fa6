#!/usr/bin/env bash
# Once, when the image is built
set -euo pipefail
apt-get update -qq
apt-get install -y -qq python3-venv bubblewrap
python3 -m venv /autograder/venv
/autograder/venv/bin/pip install --quiet -r /autograder/source/requirements.txt
