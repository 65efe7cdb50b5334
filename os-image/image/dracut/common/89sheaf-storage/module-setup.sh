#!/bin/bash
# shellcheck disable=SC2154 # moddir, initdir and the systemd folders are variables of dracut (dracut.modules(7))
# dracut module of both initrds: the kernel modules that reach a server's disks.

check() {
    return 255 # only when asked for by name
}

depends() {
    return 0
}

installkernel() {
    # shellcheck disable=SC2046 # one word a line
    hostonly='' instmods $(grep -v '^#' "$moddir/modules")
}

install() {
    return 0
}
