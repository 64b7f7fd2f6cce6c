#!/bin/sh
# Installs the spire executable for this machine. It changes nothing but the target folder, verifies the
# SHA-256 hash of what it installs, and stops without installing when anything is not as expected.
#
#   install.sh [--from DIR] [--to DIR] [--version VERSION]
#
#   --from DIR         take the executable and SHA256SUMS from a folder, such as dist/ after "npm run build:all"
#   --to DIR           install into DIR; the default is /usr/local/bin for root, else ~/.local/bin
#   --version VERSION  the release to download; the default is "latest"
#
# Without --from, the environment variable SPIRE_RELEASE_URL says where releases are: files are read from
# $SPIRE_RELEASE_URL/VERSION/.

# All work is in one function that is called on the last line, so that half a script does nothing.
main() {
  set -eu
  umask 022
  from=""
  to=""
  version="latest"
  while [ $# -gt 0 ]; do
    case "$1" in
      --from | --to | --version)
        [ $# -ge 2 ] || fail "$1 needs a value"
        case "$1" in
          --from) from=$2 ;;
          --to) to=$2 ;;
          --version) version=$2 ;;
        esac
        shift 2
        ;;
      *) fail "unknown argument $1" ;;
    esac
  done
  [ -n "$to" ] || to=$(default_folder)

  name="spire-$(machine)"
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  trap 'exit 1' HUP INT TERM

  get "$name" "$work/$name"
  get SHA256SUMS "$work/SHA256SUMS"
  verify "$work" "$name"

  mkdir -p "$to"
  # Within the target folder, so that the last step is one rename: a running spire is not disturbed.
  unfinished=$(mktemp "$to/.spire.XXXXXX")
  trap 'rm -rf "$work" "$unfinished"' EXIT
  cat "$work/$name" >"$unfinished"
  chmod 755 "$unfinished"
  "$unfinished" version >/dev/null || fail "the executable does not run on this machine"
  mv -f "$unfinished" "$to/spire"
  echo "installed $("$to/spire" version) as $to/spire"
  for program in spire-server spire-agent; do link "$to/$program"; done
  case ":$PATH:" in
    *":$to:"*) ;;
    *) echo "note: $to is not in PATH" ;;
  esac
}

# Called through this link, the executable is that program. Another program of the name is left alone.
link() {
  if [ -e "$1" ] && [ "$(readlink "$1" || true)" != spire ]; then
    echo "note: $1 is another program and stays as it is"
  else
    ln -sf spire "$1"
  fi
}

fail() {
  echo "install.sh: $1" >&2
  exit 1
}

default_folder() {
  if [ "$(id -u)" -eq 0 ]; then
    echo /usr/local/bin
  else
    [ -n "${HOME:-}" ] || fail "HOME is not set; say where to install with --to"
    echo "$HOME/.local/bin"
  fi
}

# The target's name as the build calls it, such as linux-x64 or linux-arm64-musl.
machine() {
  case "$(uname -s)" in
    Linux) system=linux ;;
    Darwin) system=darwin ;;
    *) fail "there is no executable for $(uname -s)" ;;
  esac
  case "$(uname -m)" in
    x86_64 | amd64) processor=x64 ;;
    aarch64 | arm64) processor=arm64 ;;
    *) fail "there is no executable for $(uname -m)" ;;
  esac
  libc=""
  if [ "$system" = linux ] && ldd /bin/sh 2>/dev/null | grep -q musl; then libc=-musl; fi
  echo "$system-$processor$libc"
}

# Copies or downloads one file.
get() {
  if [ -n "$from" ]; then
    [ -f "$from/$1" ] || fail "$from holds no $1"
    cp "$from/$1" "$2"
  else
    [ -n "${SPIRE_RELEASE_URL:-}" ] || fail "say where to install from: --from DIR, or SPIRE_RELEASE_URL"
    case "$SPIRE_RELEASE_URL" in
      https://*) ;;
      *) fail "SPIRE_RELEASE_URL must be an https URL" ;;
    esac
    command -v curl >/dev/null || fail "curl is needed to download"
    curl --fail --silent --show-error --location --proto '=https' --tlsv1.2 \
      --output "$2" "${SPIRE_RELEASE_URL%/}/$version/$1" || fail "could not download $1"
  fi
}

# Compares the file with its one line in SHA256SUMS.
verify() {
  expected=$(awk -v name="$2" '$2 == name || $2 == "*" name { print $1 }' "$1/SHA256SUMS")
  case "$expected" in
    *[!0-9a-f]* | "") fail "SHA256SUMS has no single hash of $2" ;;
  esac
  [ "${#expected}" -eq 64 ] || fail "SHA256SUMS has no single hash of $2"
  if command -v sha256sum >/dev/null; then
    actual=$(sha256sum "$1/$2")
  elif command -v shasum >/dev/null; then
    actual=$(shasum -a 256 "$1/$2")
  else
    fail "neither sha256sum nor shasum is there to verify the download"
  fi
  [ "${actual%% *}" = "$expected" ] || fail "the hash of $2 is not the one in SHA256SUMS"
}

main "$@"
