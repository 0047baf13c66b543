#!/bin/sh
# What the README's picture shows. To record it again, with the package termtosvg in another environment:
#   termtosvg docs/first-run.svg -c docs/first-run.sh -g 100x22 -m 250 -M 1000 -D 5000
# The picture runs ten times as fast: its animation-duration is a tenth of the recording.
show() { printf '$ %s\n' "$*"; "$@"; }
show python train.py experiment=first_run run_dir=runs/first
show python predict.py runs/first "My brother called it dull. All in all, I found it wonderful."
