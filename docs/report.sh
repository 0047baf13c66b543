#!/bin/sh
# Make the pictures of docs/howto/report.md: sh docs/report.sh SWEEP COMPARISON...
# SWEEP: runs/ID of python sweep.py docs/report-sweep.yaml --seed 0 (30 small runs, ten minutes on two cores)
# COMPARISON: the runs of python train.py -m model=rnn,gru seed=0,1,2,3,4 on IMDB
set -e
made=$(mktemp -d)
sweep=$1
shift
textrnn report "$sweep" --output "$made/sweep.html"
textrnn report "$@" --output "$made/cells.html"
take() { # NAME SCHEME WIDTH HEIGHT: a screenshot in 64 colors; scheme 0 is dark, 1 is light
  chromium --headless=new --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$made/profile" \
    --blink-settings=preferredColorScheme="$2" --window-size="$3,$4" --virtual-time-budget=8000 \
    --screenshot="$made/$1.png" "file://$made/$1.html"
  python -c "import sys; from PIL import Image; Image.open(sys.argv[1]).convert('RGB').quantize(64).save(sys.argv[2], optimize=True)" \
    "$made/$1.png" "docs/report-$1.png"
}
take sweep 1 1280 1950
take cells 0 1280 1300
rm -r "$made"
