/* SPDX-License-Identifier: MIT */
/* The ACPI root pointer: ACPI 6.5, 5.2.5.1 (where a BIOS puts it), 5.2.5.3 (its structure). */
#include <stddef.h>

#include "boot/boot.h"
#include "kernel/lib/checksum.h"
#include "kernel/lib/string.h"

#define RSDP_V1_SIZE  20
#define RSDP_REVISION 15 /* offset of the byte; 0 means version 1 */
#define RSDP_LENGTH   20 /* offset of the double word, from revision 2 on */

#define BDA_EBDA_SEGMENT 0x40e
#define EBDA_SCAN_SIZE   1024
#define BIOS_START       0xe0000
#define BIOS_SIZE        0x20000
#define SCAN_STEP        16

bool rsdp_take(struct bootinfo *info, const void *rsdp, uint64_t size)
{
    const uint8_t *bytes = rsdp;
    uint32_t length;

    if (size < RSDP_V1_SIZE || memcmp(bytes, "RSD PTR ", 8) != 0 ||
        !sums_to_zero(bytes, RSDP_V1_SIZE)) {
        return false;
    }
    info->rsdp_size = RSDP_V1_SIZE;
    memcpy(info->rsdp, bytes, RSDP_V1_SIZE);
    if (bytes[RSDP_REVISION] < 2 || size < BOOT_RSDP_SIZE) {
        return true;
    }
    /* A bad extension leaves the first part, which has a checksum of its own. */
    memcpy(&length, bytes + RSDP_LENGTH, sizeof(length));
    if (length == BOOT_RSDP_SIZE && sums_to_zero(bytes, BOOT_RSDP_SIZE)) {
        info->rsdp_size = BOOT_RSDP_SIZE;
        memcpy(info->rsdp, bytes, BOOT_RSDP_SIZE);
    }
    return true;
}

bool rsdp_take_at(struct bootinfo *info, uint64_t address)
{
    const void *rsdp = boot_physical(address, BOOT_RSDP_SIZE);

    return rsdp != NULL && rsdp_take(info, rsdp, BOOT_RSDP_SIZE);
}

static bool scan(struct bootinfo *info, uint64_t start, uint64_t size)
{
    for (uint64_t offset = 0; offset < size; offset += SCAN_STEP) {
        if (rsdp_take_at(info, start + offset)) {
            return true;
        }
    }
    return false;
}

void rsdp_scan(struct bootinfo *info)
{
    const void *bda = boot_physical(BDA_EBDA_SEGMENT, sizeof(uint16_t));
    uint16_t segment = 0;

    if (bda != NULL) {
        memcpy(&segment, bda, sizeof(segment));
    }
    if (segment != 0 && scan(info, (uint64_t)segment * 16, EBDA_SCAN_SIZE)) {
        return;
    }
    (void)scan(info, BIOS_START, BIOS_SIZE);
}
