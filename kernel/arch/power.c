/* SPDX-License-Identifier: MIT */
#include "kernel/arch/power.h"

#include "kernel/arch/cpu.h"
#include "kernel/arch/debug_exit.h"
#include "kernel/arch/uart.h"

#define PM1_POWER_BUTTON             (1u << 8) /* in status (write 1 to clear) and in enable */
#define PM1_STATUS_ALL               0x8731u   /* every status bit that is defined */
#define PM1_CONTROL_SCI_ENABLE       (1u << 0)
#define PM1_CONTROL_SLEEP_ENABLE     (1u << 13)
#define PM1_CONTROL_SLEEP_TYPE_SHIFT 10
#define PM1_CONTROL_SLEEP_TYPE       (7u << PM1_CONTROL_SLEEP_TYPE_SHIFT)

/* Firmware switches to ACPI mode within an SMI, so the first look should find it done. */
#define ACPI_ENABLE_POLLS 100000

static bool enable_acpi(const struct acpi_info *acpi)
{
    if (inw(acpi->pm1a_control) & PM1_CONTROL_SCI_ENABLE) {
        return true;
    }
    if (acpi->smi_command == 0 || acpi->acpi_enable == 0) {
        return false;
    }
    outb(acpi->smi_command, acpi->acpi_enable);
    for (uint32_t polls = 0; polls < ACPI_ENABLE_POLLS; polls++) {
        if (inw(acpi->pm1a_control) & PM1_CONTROL_SCI_ENABLE) {
            return true;
        }
    }
    return false;
}

/* An event block is two registers of equal size: status, then enable. */
static uint16_t enable_port(const struct acpi_info *acpi, uint16_t event)
{
    return (uint16_t)(event + acpi->pm1_event_length / 2);
}

static void init_events(const struct acpi_info *acpi, uint16_t event)
{
    if (event != 0) {
        outw(enable_port(acpi, event), PM1_POWER_BUTTON);
        outw(event, PM1_STATUS_ALL);
    }
}

bool power_init(const struct acpi_info *acpi)
{
    if (!acpi->has_sci || acpi->pm1a_event == 0 || acpi->pm1a_control == 0 || !enable_acpi(acpi)) {
        return false;
    }
    init_events(acpi, acpi->pm1a_event);
    init_events(acpi, acpi->pm1b_event);
    return true;
}

static uint16_t take_events(uint16_t event)
{
    uint16_t status = event != 0 ? inw(event) : 0;

    if (status != 0) {
        outw(event, status);
    }
    return status;
}

bool power_button_pressed(const struct acpi_info *acpi)
{
    uint16_t status = take_events(acpi->pm1a_event) | take_events(acpi->pm1b_event);

    return status & PM1_POWER_BUTTON;
}

static void enter_sleep(uint16_t control, uint8_t type)
{
    if (control != 0) {
        uint16_t keep = (uint16_t)(inw(control) & ~PM1_CONTROL_SLEEP_TYPE);

        outw(control,
             (uint16_t)(keep | type << PM1_CONTROL_SLEEP_TYPE_SHIFT | PM1_CONTROL_SLEEP_ENABLE));
    }
}

_Noreturn void power_off(const struct acpi_info *acpi)
{
    uart_flush();
    debug_exit(EXIT_POWEROFF);
    if (acpi->has_s5) {
        enter_sleep(acpi->pm1a_control, acpi->s5_type_a);
        enter_sleep(acpi->pm1b_control, acpi->s5_type_b);
    }
    halt_forever();
}
