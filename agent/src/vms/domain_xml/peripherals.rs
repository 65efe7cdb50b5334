//! Devices in a domain's XML that are neither disks nor NICs: console, screen, TPM, watchdog, inputs, entropy, balloon.
//!
//! Why here: they follow the disks and NICs of [`super`]. Route in: a [`Guest`]. Route out: lines of XML.

use super::{escape, virtio};
use crate::vms::guest::{Firmware, Folder, Guest, Lifetime};
use sheaf_api::peripherals::InputBus;
use sheaf_host::libvirt::AGENT_PORT;
use std::fmt::{Result, Write};

/// Folder of a TPM's state in the folder of its VM's state.
const TPM: &str = "tpm";

/// All of them.
pub fn write_peripherals(xml: &mut String, guest: &Guest, folder: &Folder) -> Result {
    let hardware = &guest.hardware;
    let virtio = virtio(hardware.transitional);
    if hardware.transitional {
        writeln!(xml, "    <controller type='virtio-serial' index='0' model='{virtio}'/>")?;
    }
    if guest.serial {
        write_serial(xml, hardware.serial_log, folder)?;
    }
    // For qemu-guest-agent, if the guest has one.
    writeln!(
        xml,
        "    <channel type='unix'>\n      <target type='virtio' name='{AGENT_PORT}'/>\n    </channel>"
    )?;
    write_inputs(xml, guest)?;
    write_tpm(xml, guest, folder)?;
    write_screen(xml, guest)?;
    if let Some((name, action)) = &hardware.watchdog {
        writeln!(xml, "    <watchdog model='i6300esb' action='{}'>", action.name())?;
        writeln!(xml, "      <alias name='ua-{}'/>\n    </watchdog>", escape(name))?;
    }
    if guest.rng {
        writeln!(
            xml,
            "    <rng model='{virtio}'>\n      <backend model='random'>/dev/urandom</backend>\n    </rng>"
        )?;
    }
    match hardware.balloon {
        true => {
            writeln!(xml, "    <memballoon model='{virtio}' freePageReporting='on'>")?;
            writeln!(xml, "      <stats period='10'/>\n    </memballoon>")
        }
        false => writeln!(xml, "    <memballoon model='none'/>"),
    }
}

fn write_serial(xml: &mut String, is_logged: bool, folder: &Folder) -> Result {
    let (socket, log) = (folder.console_socket(), folder.console_log());
    writeln!(xml, "    <serial type='unix'>")?;
    writeln!(xml, "      <source mode='bind' path='{}'/>", escape(&socket.to_string_lossy()))?;
    if is_logged {
        writeln!(xml, "      <log file='{}' append='on'/>", escape(&log.to_string_lossy()))?;
    }
    writeln!(xml, "      <target type='isa-serial' port='0'/>\n    </serial>")
}

fn write_inputs(xml: &mut String, guest: &Guest) -> Result {
    for input in &guest.hardware.inputs {
        let (kind, bus) = (input.type_.name(), input.bus.unwrap_or(InputBus::Usb));
        // libvirt knows no transitional one.
        let model = if bus == InputBus::Virtio { " model='virtio'" } else { "" };
        writeln!(xml, "    <input type='{kind}' bus='{}'{model}>", bus.name())?;
        writeln!(xml, "      <alias name='ua-{}'/>\n    </input>", escape(&input.name))?;
    }
    Ok(())
}

fn write_tpm(xml: &mut String, guest: &Guest, folder: &Folder) -> Result {
    let Some(lifetime) = guest.hardware.tpm else { return Ok(()) };
    // Without this libvirt removes the state when the domain ends; it makes it when it is not there.
    let persistent = if lifetime == Lifetime::Machine { " persistent_state='yes'" } else { "" };
    let path = folder.state(guest, lifetime).join(TPM);
    writeln!(xml, "    <tpm model='tpm-crb'>\n      <backend type='emulator' version='2.0'{persistent}>")?;
    writeln!(xml, "        <source type='dir' path='{}'/>", escape(&path.to_string_lossy()))?;
    writeln!(xml, "      </backend>\n    </tpm>")
}

fn write_screen(xml: &mut String, guest: &Guest) -> Result {
    if !guest.graphics {
        return writeln!(xml, "    <video>\n      <model type='none'/>\n    </video>");
    }
    writeln!(xml, "    <graphics type='vnc'>\n      <listen type='socket'/>\n    </graphics>")?;
    // UEFI has no use for VGA.
    let model = match guest.hardware.firmware {
        Firmware::Bios { .. } => "vga",
        Firmware::Efi { .. } => "bochs",
    };
    writeln!(xml, "    <video>\n      <model type='{model}' vram='16384' heads='1'/>\n    </video>")
}
