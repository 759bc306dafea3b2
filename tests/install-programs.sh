#!/bin/sh
# Programs that tests need beside Python's packages: a Chromium (the dashboard) and faketime (clocks that differ).
# Tests for which one is missing are skipped, and say so.
bin=$1
missing=
command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1 ||
    command -v google-chrome >/dev/null 2>&1 || missing="$missing chromium"
command -v faketime >/dev/null 2>&1 || missing="$missing faketime"
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    # shellcheck disable=SC2086
    apt-get update -qq && apt-get install -y -qq $missing >/dev/null && exit 0
fi
case $missing in *chromium*) "$bin/playwright" install chromium ;; esac || true
echo "not installed:$missing; the tests that need them are skipped, but for a Chromium that Playwright has fetched"
