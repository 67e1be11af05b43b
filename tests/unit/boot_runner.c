/* SPDX-License-Identifier: MIT */
/*
 * Runs the boot and ACPI parsers on memory images from standard input, many in one process, and
 * answers each with a line of JSON. boot_physical() hands out a fresh heap copy of exactly the
 * bytes that were asked for, so that the address sanitizer sees every byte read beyond them.
 *
 * A case: struct request, then `blobs` times a struct blob with its bytes behind it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boot/boot.h"
#include "kernel/arch/acpi.h"

enum { CASE_PVH = 1, CASE_MULTIBOOT2 = 2, CASE_ACPI = 3 };

struct request {
    uint32_t kind;
    uint32_t blobs;
    uint64_t address; /* of the start information or of the RSDP */
    uint64_t kernel_start, kernel_end;
};

struct blob {
    uint64_t base;
    uint64_t size;
};

#define BLOBS_MAX  64
#define COPIES_MAX (1 << 18)

static struct blob blobs[BLOBS_MAX];
static uint8_t *contents[BLOBS_MAX];
static uint32_t blob_count;
static void *copies[COPIES_MAX];
static uint32_t copy_count;

const void *boot_physical(uint64_t address, uint64_t size)
{
    for (uint32_t i = 0; i < blob_count; i++) {
        const struct blob *blob = &blobs[i];

        if (address == 0 || address < blob->base || size > blob->size ||
            address - blob->base > blob->size - size) {
            continue;
        }
        if (copy_count == COPIES_MAX) {
            abort(); /* a parser that does not end */
        }
        void *copy = malloc(size);

        copies[copy_count++] = copy;
        return memcpy(copy, contents[i] + (address - blob->base), size);
    }
    return NULL;
}

static void read_all(void *to, size_t size)
{
    if (fread(to, 1, size, stdin) != size) {
        exit(feof(stdin) ? 0 : 1);
    }
}

static void read_blobs(uint32_t count)
{
    if (count > BLOBS_MAX) {
        exit(2);
    }
    for (blob_count = 0; blob_count < count; blob_count++) {
        read_all(&blobs[blob_count], sizeof(blobs[0]));
        contents[blob_count] = malloc(blobs[blob_count].size);
        read_all(contents[blob_count], blobs[blob_count].size);
    }
}

static void free_all(void)
{
    while (copy_count > 0) {
        free(copies[--copy_count]);
    }
    while (blob_count > 0) {
        free(contents[--blob_count]);
    }
}

static void print_hex(const char *name, const void *bytes, size_t size)
{
    printf("\"%s\": \"", name);
    for (size_t i = 0; i < size; i++) {
        printf("%02x", ((const uint8_t *)bytes)[i]);
    }
    printf("\", ");
}

static void print_text(const char *name, const char *text)
{
    if (text == NULL) {
        printf("\"%s\": null, ", name);
    } else {
        printf("\"%s\": \"%s\", ", name, text);
    }
}

static void run_boot(const struct request *request)
{
    struct bootinfo *info = calloc(1, sizeof(*info));
    reason_t reason = request->kind == CASE_PVH
                          ? pvh_parse(info, (uint32_t)request->address)
                          : multiboot2_parse(info, (uint32_t)request->address);

    if (reason == NULL) {
        reason = boot_finish(info, request->kernel_start, request->kernel_end);
    }
    printf("{");
    print_text("reason", reason);
    print_hex("cmdline", info->cmdline, reason == NULL ? strlen(info->cmdline) : 0);
    print_hex("rsdp", info->rsdp, info->rsdp_size);
    printf("\"protocol\": %u, \"trampoline\": %lu, \"ranges\": [", info->protocol,
           info->trampoline);
    for (uint32_t i = 0; i < info->range_count; i++) {
        printf("%s[%lu, %lu, %u]", i == 0 ? "" : ", ", info->ranges[i].base, info->ranges[i].length,
               info->ranges[i].type);
    }
    printf("], \"modules\": [");
    for (uint32_t i = 0; i < info->module_count; i++) {
        printf("%s[%lu, %lu]", i == 0 ? "" : ", ", info->modules[i].base, info->modules[i].size);
    }
    printf("]}\n");
    free(info);
}

static void print_line(const char *name, const struct acpi_line *line)
{
    printf("\"%s\": [%u, %d, %d]", name, line->gsi, line->active_low, line->level);
}

static void print_acpi(const struct acpi_info *acpi)
{
    char name[16];

    printf("{");
    print_text("problem", acpi->problem);
    printf("\"left_out\": %u, \"cores\": [", acpi->cores_left_out);
    for (uint32_t i = 0; i < acpi->core_count; i++) {
        printf("%s[%u, %u, %u, %d]", i == 0 ? "" : ", ", acpi->cores[i].apic_id, acpi->cores[i].uid,
               acpi->cores[i].nmi_lint, acpi->cores[i].nmi_active_low);
    }
    printf("], \"ioapics\": [");
    for (uint32_t i = 0; i < acpi->ioapic_count; i++) {
        printf("%s[%u, %u]", i == 0 ? "" : ", ", acpi->ioapics[i].address,
               acpi->ioapics[i].gsi_base);
    }
    printf("], \"isa\": {");
    for (uint32_t i = 0; i < ACPI_ISA_IRQS; i++) {
        snprintf(name, sizeof(name), "%u", i);
        print_line(name, &acpi->isa[i]);
        printf("%s", i + 1 < ACPI_ISA_IRQS ? ", " : "}, ");
    }
    const struct boot_power *power = &acpi->power;

    printf(
        "\"registers\": %d, \"sci_line\": %u, \"smi\": [%u, %u], \"pm1\": [%u, %u, %u, %u, %u], ",
        power->has_registers, power->sci_line, power->smi_command, power->acpi_enable,
        power->event_a, power->event_b, power->event_length, power->control_a, power->control_b);
    if (power->has_s5) {
        printf("\"s5\": [%u, %u]}\n", power->s5_a, power->s5_b);
    } else {
        printf("\"s5\": null}\n");
    }
}

static void run_acpi(const struct request *request)
{
    struct bootinfo *info = calloc(1, sizeof(*info));
    struct acpi_info *acpi = calloc(1, sizeof(*acpi));

    (void)rsdp_take_at(info, request->address);
    acpi_parse(acpi, info);
    print_acpi(acpi);
    free(acpi);
    free(info);
}

int main(void)
{
    struct request request;

    for (;;) {
        read_all(&request, sizeof(request));
        read_blobs(request.blobs);
        if (request.kind == CASE_ACPI) {
            run_acpi(&request);
        } else {
            run_boot(&request);
        }
        fflush(stdout);
        free_all();
    }
}
