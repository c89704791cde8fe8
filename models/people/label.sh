#!/usr/bin/env bash
# Step 2 of the everyday-people training set: label what `collect.py` brought.
#   models/people/label.sh PEOPLE TEACHER.onnx DETECTOR.onnx KEEP_OUT [more options of data label]
# KEEP_OUT is a folder of pictures to be judged on later: they and whatever looks like them are left
# out. Every set is resumable; one that has its JSON, or no folder, is skipped.
set -euo pipefail
people=$1 teacher=$2 detector=$3 keep_out=$4
shift 4

label() {
    local name=$1
    shift
    [[ -d $people/$name && ! -f $people/$name.json ]] || return 0
    okdhp-edge data label "$people/$name" --out "$people/$name.json" --teacher "$teacher" \
        --exclude "$keep_out" --sheet "$people/$name.jpg" "$@"
}

label stanford40 --boxes none --detector "$detector" --min-height 64 --negatives 1 "${@}"
label actions --boxes none --detector "$detector" --min-height 64 "${@}"
label sports --boxes none --detector "$detector" --min-height 64 "${@}"
label sports100 --boxes none --detector "$detector" --min-height 64 "${@}"
label coco2014 --boxes none --detector "$detector" --min-height 48 "${@}"
label captions --boxes none --detector "$detector" --min-height 64 "${@}"
label sites --boxes none --detector "$detector" --min-height 64 "${@}"
label gatherings --person-class 0 --negatives 1 --min-height 64 --detector "$detector" "${@}"
label fddb --boxes none --detector "$detector" --min-height 64 "${@}"
label tweets --boxes none --detector "$detector" --min-height 64 --negatives 1 "${@}"
label flickr --boxes none --detector "$detector" --min-height 64 "${@}"
label smokers --boxes none --detector "$detector" --min-height 64 "${@}"
label offices --person-class 0 --detector "$detector" --min-height 64 --negatives 1 "${@}"
label fashion --boxes none --detector "$detector" --min-height 64 --negatives 1 "${@}"
label masks --boxes none --detector "$detector" --min-height 48 "${@}"
label gestures --boxes none --detector "$detector" --every 5 --duplicates 1 --negatives 1 "${@}"
label clothes --boxes none --no-people --negatives 1 "${@}"
label rooms --boxes none --detector "$detector" --negatives 2 "${@}"
