// SPDX-License-Identifier: MIT
/* ACPI tables, hardware-reduced profile. The DSDT is compiled by iasl. */
#include <stdint.h>
#include <string.h>

#include "dsdt.hex" /* made from dsdt.asl: dsdt_aml_code[] */
#include "x86/acpi.h"
#include "x86/boot.h"
#include "x86/layout.h"

#define packed __attribute__((packed))

struct packed acpi_header {
	char signature[4];
	uint32_t length;
	uint8_t revision, checksum;
	char oem_id[6], oem_table_id[8];
	uint32_t oem_revision;
	char creator_id[4];
	uint32_t creator_revision;
};

struct packed acpi_rsdp {
	char signature[8];
	uint8_t checksum;
	char oem_id[6];
	uint8_t revision;
	uint32_t rsdt, length;
	uint64_t xsdt;
	uint8_t extended_checksum, reserved[3];
};

struct packed acpi_xsdt {
	struct acpi_header header;
	uint64_t table[2];
};

/* Generic address structure. */
struct packed acpi_gas {
	uint8_t space, bit_width, bit_offset, access;
	uint64_t address;
};

#define GAS_SYSTEM_IO 1
#define GAS_BYTE_ACCESS 1

struct packed acpi_fadt {
	struct acpi_header header;
	uint32_t facs, dsdt;
	uint8_t reserved0, profile;
	uint8_t fixed_hardware[63]; /* all zero in the reduced profile */
	uint16_t boot_arch;
	uint8_t reserved1;
	uint32_t flags;
	struct acpi_gas reset;
	uint8_t reset_value;
	uint16_t arm_boot_arch;
	uint8_t minor_revision;
	uint64_t x_facs, x_dsdt;
	struct acpi_gas fixed_blocks[8];
	struct acpi_gas sleep_control, sleep_status;
	uint64_t hypervisor;
};

_Static_assert(sizeof(struct acpi_header) == 36, "table header");
_Static_assert(sizeof(struct acpi_rsdp) == 36, "RSDP");
_Static_assert(__builtin_offsetof(struct acpi_fadt, boot_arch) == 109, "FADT");
_Static_assert(__builtin_offsetof(struct acpi_fadt, reset) == 116, "FADT");
_Static_assert(__builtin_offsetof(struct acpi_fadt, x_dsdt) == 140, "FADT");
_Static_assert(__builtin_offsetof(struct acpi_fadt, sleep_control) == 244,
	       "FADT");
_Static_assert(sizeof(struct acpi_fadt) == 276, "FADT");

#define BOOT_ARCH_NO_VGA (1u << 2)
#define BOOT_ARCH_NO_CMOS (1u << 5)
#define FADT_WBINVD (1u << 0)
#define FADT_NO_POWER_BUTTON (1u << 4)
#define FADT_NO_SLEEP_BUTTON (1u << 5)
#define FADT_RESET_REGISTER (1u << 10)
#define FADT_HW_REDUCED (1u << 20)

struct packed acpi_madt {
	struct acpi_header header;
	uint32_t lapic, flags;
	struct packed {
		uint8_t type, length, id, reserved;
		uint32_t address, gsi_base;
	} ioapic;
	struct packed {
		uint8_t type, length, processor, apic;
		uint32_t flags;
	} cpu[KVM_VM_MAX_CPUS];
};

static uint8_t checksum(const void *data, size_t length)
{
	const uint8_t *byte = data;
	uint8_t sum = 0;

	while (length--)
		sum += *byte++;
	return -sum;
}

static void set_header(struct acpi_header *header, const char *signature,
		       uint8_t revision, uint32_t length)
{
	memcpy(header->signature, signature, sizeof(header->signature));
	header->length = length;
	header->revision = revision;
	memcpy(header->oem_id, "AEROST", sizeof(header->oem_id));
	memcpy(header->oem_table_id, "AEROSTAT", sizeof(header->oem_table_id));
	header->oem_revision = 1;
	memcpy(header->creator_id, "AERO", sizeof(header->creator_id));
	header->creator_revision = 1;
	header->checksum = 0;
	header->checksum = checksum(header, length);
}

static struct acpi_gas byte_port(uint16_t port)
{
	return (struct acpi_gas){ .space = GAS_SYSTEM_IO, .bit_width = 8,
				  .access = GAS_BYTE_ACCESS, .address = port };
}

static void fill_fadt(struct acpi_fadt *fadt, uint64_t dsdt)
{
	memset(fadt, 0, sizeof(*fadt));
	fadt->x_dsdt = dsdt;
	fadt->boot_arch = BOOT_ARCH_NO_VGA | BOOT_ARCH_NO_CMOS;
	fadt->flags = FADT_WBINVD | FADT_NO_POWER_BUTTON |
		      FADT_NO_SLEEP_BUTTON | FADT_RESET_REGISTER |
		      FADT_HW_REDUCED;
	fadt->reset = byte_port(X86_RESET);
	fadt->reset_value = X86_RESET_VALUE;
	fadt->sleep_control = byte_port(X86_SLEEP_CONTROL);
	fadt->sleep_status = byte_port(X86_SLEEP_STATUS);
	fadt->minor_revision = 5;
	memcpy(&fadt->hypervisor, "AEROSTAT", sizeof(fadt->hypervisor));
	set_header(&fadt->header, "FACP", 6, sizeof(*fadt));
}

/* Return: length of the table */
static uint32_t fill_madt(struct acpi_madt *madt, unsigned int cpus)
{
	uint32_t length = __builtin_offsetof(struct acpi_madt, cpu) +
			  cpus * sizeof(madt->cpu[0]);
	unsigned int i;

	memset(madt, 0, sizeof(*madt));
	madt->lapic = X86_LAPIC;
	madt->ioapic.type = 1;
	madt->ioapic.length = sizeof(madt->ioapic);
	madt->ioapic.address = X86_IOAPIC;
	for (i = 0; i < cpus; i++) {
		madt->cpu[i].length = sizeof(madt->cpu[i]);
		madt->cpu[i].processor = madt->cpu[i].apic = i;
		madt->cpu[i].flags = 1; /* enabled */
	}
	set_header(&madt->header, "APIC", 5, length);
	return length;
}

static void fill_rsdp(struct acpi_rsdp *rsdp, uint64_t xsdt)
{
	memset(rsdp, 0, sizeof(*rsdp));
	memcpy(rsdp->signature, "RSD PTR ", sizeof(rsdp->signature));
	memcpy(rsdp->oem_id, "AEROST", sizeof(rsdp->oem_id));
	rsdp->revision = 2;
	rsdp->length = sizeof(*rsdp);
	rsdp->xsdt = xsdt;
	rsdp->checksum = checksum(rsdp, 20); /* the part of ACPI 1.0 */
	rsdp->extended_checksum = checksum(rsdp, sizeof(*rsdp));
}

int x86_acpi_write(struct guest_memory *memory, unsigned int cpus,
		   struct error *err)
{
	uint64_t xsdt_at = X86_ACPI + 0x40, fadt_at = X86_ACPI + 0x100;
	uint64_t madt_at = X86_ACPI + 0x300, dsdt_at = X86_ACPI + 0x1000;
	struct acpi_xsdt xsdt = { .table = { fadt_at, madt_at } };
	struct acpi_rsdp rsdp;
	struct acpi_fadt fadt;
	struct acpi_madt madt;
	uint32_t madt_length = fill_madt(&madt, cpus);

	fill_fadt(&fadt, dsdt_at);
	set_header(&xsdt.header, "XSDT", 1, sizeof(xsdt));
	fill_rsdp(&rsdp, xsdt_at);
	if (x86_boot_write(memory, X86_ACPI, &rsdp, sizeof(rsdp)) < 0 ||
	    x86_boot_write(memory, xsdt_at, &xsdt, sizeof(xsdt)) < 0 ||
	    x86_boot_write(memory, fadt_at, &fadt, sizeof(fadt)) < 0 ||
	    x86_boot_write(memory, madt_at, &madt, madt_length) < 0 ||
	    x86_boot_write(memory, dsdt_at, dsdt_aml_code,
			   sizeof(dsdt_aml_code)) < 0)
		return error_set(err, "ACPI tables do not fit into memory");
	return 0;
}
