/* SPDX-License-Identifier: MIT */
#include "user/init/power.h"

#include "kernel/abi/bootpage.h"
#include "kernel/arch/debug_exit.h"
#include "user/libos/start.h"
#include "user/libos/syscall.h"

#define RESET_CONTROL 0xcf9
#define RESET_NOW     0x06

/* The chipset acts when it is ready, not with the write (ACPI 6.5, 7.4.2); nor does QEMU. */
#define TAKES_EFFECT_NS 1000000000UL

#define PM1_BUTTON           (1u << 8) /* in status (write 1 to clear) and in enable */
#define PM1_STATUS_ALL       0x8731u   /* every status bit that is defined */
#define PM1_SCI_ENABLE       (1u << 0)
#define PM1_SLEEP_ENABLE     (1u << 13)
#define PM1_SLEEP_TYPE_SHIFT 10
#define PM1_SLEEP_TYPE       (7u << PM1_SLEEP_TYPE_SHIFT)

/* Firmware hands the registers over within the write to its command port. */
#define HANDOVER_POLLS 1000

static const struct boot_power *const registers = &((const struct boot_page *)BOOT_PAGE)->power;
static cap_t sci;

static uint16_t read16(uint16_t port)
{
    return (uint16_t)sys_ioports_read(own.grants[GRANT_IOPORTS], port, 2).second;
}

static void write16(uint16_t port, uint64_t value)
{
    sys_ioports_write(own.grants[GRANT_IOPORTS], port, 2, value);
}

static bool take_over(void)
{
    if (read16(registers->control_a) & PM1_SCI_ENABLE) {
        return true;
    }
    if (registers->smi_command == 0 || registers->acpi_enable == 0) {
        return false;
    }
    sys_ioports_write(own.grants[GRANT_IOPORTS], registers->smi_command, 1, registers->acpi_enable);
    for (int polls = 0; polls < HANDOVER_POLLS; polls++) {
        if (read16(registers->control_a) & PM1_SCI_ENABLE) {
            return true;
        }
    }
    return false;
}

static void listen(uint16_t event)
{
    if (event != 0) {
        write16((uint16_t)(event + registers->event_length / 2), PM1_BUTTON);
        write16(event, PM1_STATUS_ALL);
    }
}

int64_t power_start(cap_t notification)
{
    struct result line;

    if (!registers->has_registers || !take_over()) {
        return 0;
    }
    line = sys_range_slice(own.grants[GRANT_IRQS], registers->sci_line, 1);
    if (line.value < 0) {
        return line.value;
    }
    sci = line.second;
    listen(registers->event_a);
    listen(registers->event_b);
    return sys_irq_bind(sci, notification, POWER_BIT).value;
}

static uint16_t take_events(uint16_t event)
{
    uint16_t status = event == 0 ? 0 : read16(event);

    if (status != 0) {
        write16(event, status);
    }
    return status;
}

bool power_button(void)
{
    uint16_t status = take_events(registers->event_a) | take_events(registers->event_b);

    sys_irq_ack(sci);
    return status & PM1_BUTTON;
}

static void sleep_forever(uint16_t control, uint8_t type)
{
    if (control != 0) {
        uint16_t keep = (uint16_t)(read16(control) & ~PM1_SLEEP_TYPE);

        write16(control, keep | (uint64_t)type << PM1_SLEEP_TYPE_SHIFT | PM1_SLEEP_ENABLE);
    }
}

void power(enum power what)
{
    cap_t ports = own.grants[GRANT_IOPORTS];

    if (what == POWER_PANIC) {
        sys_panic(ports);
    }
    if (what == POWER_RESET) {
        sys_ioports_write(ports, RESET_CONTROL, 1, RESET_NOW);
        sys_sleep(TAKES_EFFECT_NS);
        return;
    }
    sys_ioports_write(ports, DEBUG_EXIT_PORT, 4,
                      what == POWER_OFF ? EXIT_POWEROFF : EXIT_TEST_FAILURE);
    if (registers->has_s5) {
        sleep_forever(registers->control_a, registers->s5_a);
        sleep_forever(registers->control_b, registers->s5_b);
        sys_sleep(TAKES_EFFECT_NS);
    }
}
