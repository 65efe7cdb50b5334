#!/bin/sh
# Says why the installer ended without a word of its own. The machine stays as it is: a reboot would only come back here.

# It said why by itself, on the same consoles.
[ -e /run/sheaf/install-failed ] && exit 0

for tty in /dev/tty1 /dev/ttyS0; do
    {
        printf '\r\nsheaf: the installer stopped unexpectedly; its last lines were:\r\n'
        journalctl --boot --no-pager --output=cat --lines=20
        printf '\r\nsheaf: nothing more is done; power the machine off, or reset it to try again\r\n'
    } >"$tty" 2>/dev/null
done
exit 0
