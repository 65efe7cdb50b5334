#!/bin/bash
# shellcheck disable=SC2154 # moddir, initdir and the systemd folders are variables of dracut (dracut.modules(7))
# dracut module of the installer's initrd: all that /usr/bin/sheaf-installer calls, and the target that starts it.
# The program itself and /etc/sheaf/release.pub are appended to the finished initrd as a second archive.

check() {
    return 255 # only when asked for by name
}

depends() {
    # Not systemd-initrd: there is no other root to go to, so this is a system of its own that starts default.target.
    echo dash systemd systemd-udevd systemd-journald systemd-tmpfiles systemd-modules-load dm udev-rules sheaf-storage
}

installkernel() {
    # What a medium and a config drive are made of, and what a keyboard needs.
    hostonly='' instmods isofs sr_mod cdrom vfat nls_cp437 nls_iso8859-1 nls_ascii nls_utf8 loop ext4 efivarfs \
        crc32c_intel sha256_ssse3 usbhid hid_generic hid_apple i8042 atkbd
    # The NICs of servers: the plan makes sure that every bridge of node.toml finds its own before a disk is written.
    hostonly='' instmods virtio_net vmxnet3 hv_netvsc e1000 e1000e igb igc ixgbe ixgbevf i40e iavf ice \
        bnx2 bnx2x bnxt_en tg3 r8169 mlx4_en mlx5_core atlantic ena cxgb4 qede sfc be2net enic \
        r8152 cdc_ether cdc_ncm ax88179_178a
    # What node.toml makes of them, and what asks whether an address is free.
    hostonly='' instmods bonding bridge 8021q af_packet
}

install() {
    inst_multiple blkid mkfs.vfat mkfs.ext4 mke2fs mmd mcopy mdir mtools wipefs sfdisk blockdev lsblk udevadm \
        mount umount modprobe journalctl reboot poweroff cat sleep
    inst_simple /etc/mke2fs.conf
    # mtools write names in the code page of FAT, which the C library loads by name.
    inst_libdir_file 'gconv/IBM850.so' 'gconv/gconv-modules' 'gconv/gconv-modules.cache'
    # NICs get the names that the node will see, so that node.toml may use them.
    inst_rules 75-net-description.rules 80-net-setup-link.rules
    inst_simple /usr/lib/systemd/network/99-default.link
    # The network, for a node.toml or a release on a server and to be tried before a disk is touched: networkd, started
    # by the installer when it needs it, and what makes its files of the kernel argument ip=.
    inst_multiple networkctl "$systemdutildir/systemd-networkd" "$systemdutildir/systemd-network-generator"
    inst_simple /usr/lib/tmpfiles.d/systemd-network.conf
    # Among other things, that the module for bonds makes no bond0 of its own, whose mode networkd cannot change.
    inst_simple /usr/lib/modprobe.d/systemd.conf
    for unit in systemd-networkd.service systemd-networkd.socket systemd-network-generator.service network.target \
        network-pre.target; do
        inst_simple "$systemdsystemunitdir/$unit"
    done
    mkdir -p "$initdir$systemdsystemunitdir/sysinit.target.wants"
    ln_r "$systemdsystemunitdir/systemd-network-generator.service" \
        "$systemdsystemunitdir/sysinit.target.wants/systemd-network-generator.service"
    for file in passwd group; do
        grep -q '^systemd-network:' "$initdir/etc/$file" 2>/dev/null ||
            grep '^systemd-network:' "/etc/$file" >>"$initdir/etc/$file"
    done
    inst_libdir_file 'libnss_files.so*' 'libnss_dns.so*' 'libresolv.so*'
    # Libraries of the installer, which is not here yet.
    inst_libdir_file 'libc.so*' 'libm.so*' 'libgcc_s.so*' 'ld-linux*'
    inst_script "$moddir/installer-failed.sh" /usr/lib/sheaf/installer-failed
    for unit in sheaf-installer.target sheaf-installer.service emergency.service; do
        inst_simple "$moddir/$unit" "$systemdsystemunitdir/$unit"
    done
    inst_simple "$moddir/emergency.service" "$systemdsystemunitdir/rescue.service"
    printf 'NAME=Sheaf\nID=sheaf\nPRETTY_NAME="Sheaf installer"\n' >"$initdir/usr/lib/os-release"
    rm -f "$initdir/etc/initrd-release"
    ln -sf ../usr/lib/os-release "$initdir/etc/os-release"
    ln_r "$systemdsystemunitdir/sheaf-installer.target" "$systemdsystemunitdir/default.target"
    # Nothing on the kernel's command line may open a shell, and no partition found here is ours to mount.
    rm -f "$initdir$systemdutildir/system-generators/systemd-debug-generator" \
        "$initdir$systemdutildir/system-generators/systemd-gpt-auto-generator" \
        "$initdir$systemdutildir/system-generators/systemd-fstab-generator" \
        "$initdir$systemdsystemunitdir/debug-shell.service"
}
