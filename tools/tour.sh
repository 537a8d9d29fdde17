#!/usr/bin/env bash
# The console's pages of the shipped shop as files, in the folder given: bash tools/tour.sh build/docs/tour
set -euo pipefail
to=$1 port=${PORT:-8970}
cd "$(dirname "$0")/.."
mkdir -p build
PYTHONPATH=$PWD .venv/bin/python -P -m pricing.runtime.command demo --port "$port" >build/demo.log 2>&1 &
demo=$!
trap 'kill "$demo" 2>/dev/null; wait "$demo" || true' EXIT
until grep -q Ctrl-C build/demo.log; do
  kill -0 "$demo" || { cat build/demo.log; exit 1; }
  sleep 0.2
done
rm -rf "$to"
# A list has one filter here, where the console combines them: links to other lists lose their address.
wget --quiet --recursive --level=3 --ignore-tags=form --page-requisites --adjust-extension --convert-links --restrict-file-names=windows \
  --no-host-directories --directory-prefix="$to" \
  --accept-regex '^[^?]*$|\?product=[^&]*$|/\?show=[^&]*$|/\?show=all&(category|reason|way|page)=[^&]*$' "http://127.0.0.1:$((port + 10))/"
words='This is a tour of still pages: its buttons and forms do nothing. <code>pricing demo</code> opens the same shop for you to try.'
find "$to" -name '*.html' -exec sed -i -e "s|<main id=\"main\">|&<p class=\"simulated\" role=\"note\">$words</p>|" \
  -e 's#"http://127[^"?]*/?"#"index.html"#g' -e 's# \(href="http://127\|action="\)[^"]*"##g' \
  -e 's/<button/<button disabled/g' -e 's/name="csrf" value="[^"]*"/name="csrf"/' {} +
