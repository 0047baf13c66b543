#!/bin/sh
# Make the picture of docs/howto/explain.md from the tutorial's run: sh docs/explain.sh [RUN]
set -e
made=$(mktemp -d)
textrnn explain "${1:-runs/first}" --mistakes 2 --output "$made/page.html"
chromium --headless=new --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$made/profile" \
  --blink-settings=preferredColorScheme=1 --window-size=1000,1150 --screenshot="$made/page.png" "file://$made/page.html"
python -c "import sys; from PIL import Image; Image.open(sys.argv[1]).convert('RGB').quantize(256, method=Image.Quantize.MAXCOVERAGE).save(sys.argv[2], optimize=True)" \
  "$made/page.png" docs/explain.png
rm -r "$made"
