#!/bin/sh
# Resolve pyproject.toml into the lock files. Usage: sh requirements/lock.sh PATH_OF_UV
set -eu
cd "$(dirname "$0")/.."
compile() {
    "$1" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --no-header $2 -o "$3"
}
# All that is small: torch is hundreds of megabytes, for those who ask for it.
extras="--extra sklearn --extra xgboost --extra lightgbm --extra postgresql --extra granian"
compile "$1" "$extras --group build pyproject.toml" requirements/serve.txt
compile "$1" "$extras --group build --group dev -c requirements/serve.txt pyproject.toml" \
    requirements/dev.txt
for client in tritonclient kserve; do
    compile "$1" "requirements/$client.in" "requirements/$client.txt"
done
