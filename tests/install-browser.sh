#!/bin/sh
# The dashboard's tests need a Chromium. Without one they are skipped, and say so.
bin=$1
for name in chromium chromium-browser google-chrome; do
    command -v "$name" >/dev/null 2>&1 && exit 0
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    apt-get update -qq && apt-get install -y -qq chromium >/dev/null && exit 0
fi
"$bin/playwright" install chromium || echo "no Chromium could be installed: browser tests will be skipped"
