#!/usr/bin/env bash
# Step 4 of the everyday-people training set: train a recipe on it.
#   models/people/train.sh RECIPE.toml PEOPLE KEEP_OUT [more options of train]
# KEEP_OUT is the COCO set that is judged on; `label.sh` kept its pictures out of PEOPLE.
# SETS names other sets than all, or parts of them: SETS="lspet stanford40 tweets@all[:3000]"; a set
# named twice is shown twice. PEOPLE holds NAME.json of `data label`, or NAME/annotations.json of
# `data crops`.
set -euo pipefail
recipe=$1 people=$2 keep_out=$3
shift 3
# Of the clothes without bodies as many as make nobodies a sixth of what is seen; athletes, whose
# joints people have marked, three times.
all="stanford40 gatherings lspet lspet lspet fddb tweets flickr smokers offices fashion masks
    gestures rooms clothes@all[:1500]"
data=
for set in ${SETS:-$all}; do
    name=${set%%@*}
    file=$people/$name.json
    [[ -f $file ]] || file=$people/$name/annotations.json
    data+=",coco:$file${set#"$name"}"
done
exec okdhp-edge train --recipe "$recipe" --data "${data:1}" --val-data "coco:$keep_out@all" "$@"
