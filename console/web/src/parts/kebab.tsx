/** Acts behind three dots. */
import { Dropdown, DropdownItem, DropdownList, MenuToggle } from "@patternfly/react-core";
import EllipsisVIcon from "@patternfly/react-icons/dist/esm/icons/ellipsis-v-icon";
import { useState } from "react";

export interface Item {
  label: string;
  isDanger?: boolean;
  onClick: () => void;
}

export function Kebab({ of, items }: { of: string; items: Item[] }) {
  const [isOpen, setOpen] = useState(false);
  if (items.length === 0) return null;
  return (
    <Dropdown
      isOpen={isOpen}
      onSelect={() => setOpen(false)}
      onOpenChange={setOpen}
      popperProps={{ position: "right" }}
      toggle={(ref) => (
        <MenuToggle
          ref={ref}
          variant="plain"
          isExpanded={isOpen}
          onClick={() => setOpen(!isOpen)}
          aria-label={`Actions of ${of}`}
          icon={<EllipsisVIcon />}
        />
      )}
    >
      <DropdownList>
        {items.map((item) => (
          <DropdownItem key={item.label} isDanger={item.isDanger ?? false} onClick={item.onClick}>
            {item.label}
          </DropdownItem>
        ))}
      </DropdownList>
    </Dropdown>
  );
}
