#!/bin/bash
# shellcheck disable=SC2154 # moddir, initdir and the systemd folders are variables of dracut (dracut.modules(7))
# dracut module of the node: finds the install it belongs to, mounts state, overlays /etc, hands over.
# Root itself (erofs on dm-verity) is mounted by systemd's own generators from the kernel's arguments.

check() {
    return 255 # only when asked for by name
}

depends() {
    echo dash systemd-initrd systemd-veritysetup dm udev-rules sheaf-storage
}

installkernel() {
    hostonly='' instmods erofs overlay ext4 dm-verity efivarfs crc32c_intel sha256_ssse3
    # The EFI system partition, on which a boot that fails is counted.
    hostonly='' instmods vfat nls_cp437 nls_iso8859-1 nls_ascii
    # Watchdogs, with the bridges that show them: what hangs before the root's own drivers are loaded is reset, too.
    hostonly='' instmods iTCO_wdt sp5100_tco wdat_wdt hpwdt i6300esb lpc_ich i2c_i801
}

install() {
    inst_multiple cat chmod chroot cp e2fsck grep ln mkdir mount mv readlink rm sed sleep sync udevadm umount
    inst_multiple dd od tr journalctl reboot
    inst_script "$moddir/sheaf-state.sh" /usr/lib/sheaf/sheaf-state
    inst_script "$moddir/boot-lib.sh" /usr/lib/sheaf/boot-lib
    inst_script "$moddir/boot-failed.sh" /usr/lib/sheaf/boot-failed
    inst_script "$moddir/count-boot.sh" /usr/lib/sheaf/count-boot
    inst_simple "$moddir/sheaf-boots.service" "$systemdsystemunitdir/sheaf-boots.service"
    mkdir -p "$initdir$systemdsystemunitdir/initrd-root-device.target.wants"
    ln_r "$systemdsystemunitdir/sheaf-boots.service" \
        "$systemdsystemunitdir/initrd-root-device.target.wants/sheaf-boots.service"
    inst_simple "$moddir/sheaf-state.service" "$systemdsystemunitdir/sheaf-state.service"
    mkdir -p "$initdir$systemdsystemunitdir/initrd-fs.target.requires"
    ln_r "$systemdsystemunitdir/sheaf-state.service" \
        "$systemdsystemunitdir/initrd-fs.target.requires/sheaf-state.service"
    # No shell on failure: say why and reboot, so that a boot that fails uses up one of its slot's tries.
    inst_simple "$moddir/emergency.service" "$systemdsystemunitdir/emergency.service"
    inst_simple "$moddir/emergency.service" "$systemdsystemunitdir/rescue.service"
    # As the root's; it is armed again when the root's systemd takes over.
    mkdir -p "$initdir$systemdutildir/system.conf.d"
    printf '[Manager]\nRuntimeWatchdogSec=60s\n' >"$initdir$systemdutildir/system.conf.d/sheaf.conf"
    printf 'NAME=Sheaf\nID=sheaf\nPRETTY_NAME="Sheaf (initrd)"\n' >"$initdir/usr/lib/initrd-release"
    ln -sf ../usr/lib/initrd-release "$initdir/etc/initrd-release"
    ln -sf initrd-release "$initdir/usr/lib/os-release"
    ln -sf ../usr/lib/os-release "$initdir/etc/os-release"
    ln_r "$systemdsystemunitdir/initrd.target" "$systemdsystemunitdir/default.target"
    # Nothing on the kernel's command line may open a shell, and the partition table names no root.
    rm -f "$initdir$systemdutildir/system-generators/systemd-debug-generator" \
        "$initdir$systemdutildir/system-generators/systemd-gpt-auto-generator" \
        "$initdir$systemdsystemunitdir/debug-shell.service"
}
