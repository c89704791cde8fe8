#!/usr/bin/env bash
# Step 2 of the person detector's training set: train a recipe on it.
#   models/person/train.sh RECIPE.toml PEOPLE [more options of train]
# SETS names other sets than all, or parts of them: SETS="gatherings@train[:2500] tweets@all[:500]".
set -euo pipefail
recipe=$1 people=$2
shift 2
all="gatherings@train stanford40 actions sports22@all[:7000] tweets rooms offices clothes@all[:1500]"
data=
for set in ${SETS:-$all}; do
    name=${set%%@*}
    file=$people/boxes/$name.json
    # Pictures without people have their file from `data label --no-people`.
    [[ -f $file ]] || file=$people/$name.json
    data+=",coco:$file${set#"$name"}"
done
exec okdhp-edge train --recipe "$recipe" --data "${data:1}" \
    --val-data "coco:$people/boxes/gatherings.json@val[:300]" "$@"
