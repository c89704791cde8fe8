#!/usr/bin/env bash
# Step 1 of the person detector's training set: the boxes of everybody in every picture.
#   models/person/boxes.sh PEOPLE DETECTOR.onnx [more options of boxes.py]
# PEOPLE holds the pictures and NAME.json of models/people (collect.py, label.sh); each set becomes
# PEOPLE/boxes/NAME.json, and one that is there already is not made again.
set -euo pipefail
people=$1 detector=$2
shift 2
mkdir -p "$people/boxes"

find_boxes() {
    local name=$1
    shift
    [[ -f $people/boxes/$name.json ]] && return
    python "$(dirname "$0")/boxes.py" "$people/$name" "$people/boxes/$name.json" \
        --detector "$detector" "$@"
}

find_boxes stanford40 --labels "$people/stanford40.json" "${@}"
find_boxes gatherings --labels "$people/gatherings.json" --sidecars 0 "${@}"
find_boxes tweets --labels "$people/tweets.json" "${@}"
find_boxes actions --labels "$people/actions.json" "${@}"
find_boxes sports22 --labels "$people/sports22.json" "${@}"
# Most rooms are empty: what is hardly a person to the detector is background to be learned.
find_boxes rooms --lowest-score 0.45 "${@}"
find_boxes offices --sidecars 0 "${@}"
