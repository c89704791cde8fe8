#!/usr/bin/env bash
# Step 4 of the everyday-people training set: train a recipe on all of it.
#   models/people/train.sh models/lite/recipe.toml PEOPLE KEEP_OUT [more options of train]
# KEEP_OUT is the COCO set that is judged on; `label.sh` kept its pictures out of PEOPLE.
set -euo pipefail
recipe=$1 people=$2 keep_out=$3
shift 3
sets=(stanford40 gatherings lspet fddb tweets flickr smokers offices fashion masks gestures rooms)
data=$(printf ",coco:$people/%s.json" "${sets[@]}")
# Clothes without bodies: as many as make nobodies a fifth of what is seen.
data+=",coco:$people/clothes.json@all[:1500]"
exec okdhp-edge train --recipe "$recipe" --data "${data:1}" --val-data "coco:$keep_out@all" "$@"
