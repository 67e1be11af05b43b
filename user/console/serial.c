/* SPDX-License-Identifier: MIT */
/* 16550 UART; register layout: PC16550D data sheet, section 8. */
#include "user/console/serial.h"

#include "kernel/arch/uart.h"
#include "user/libos/start.h"
#include "user/libos/syscall.h"

#define UART_INTERRUPT_IDENTITY 2 /* when read */
#define UART_IER_RECEIVED       0x01
#define UART_IER_ROOM           0x02
#define UART_FCR_ENABLE         0x01 /* and what is in the FIFOs stays */
#define UART_FIFO_BYTES         16

static uint8_t get(uint16_t offset)
{
    return (uint8_t)sys_ioports_read(own.grants[GRANT_IOPORTS], COM1_PORT + offset, 1).second;
}

static void set(uint16_t offset, uint8_t value)
{
    sys_ioports_write(own.grants[GRANT_IOPORTS], COM1_PORT + offset, 1, value);
}

int64_t serial_start(uint64_t notification)
{
    int64_t status = sys_irq_bind(own.grants[GRANT_IRQS], notification, 1).value;

    if (status < 0) {
        return status;
    }
    /* Speed and format are the kernel's, who printed here before. */
    set(UART_FIFO_CONTROL, UART_FCR_ENABLE);
    set(UART_MODEM_CONTROL, UART_MCR_DTR_RTS_OUT2);
    set(UART_INTERRUPT_ENABLE, UART_IER_RECEIVED);
    return 0;
}

int serial_read(void)
{
    return get(UART_LINE_STATUS) & UART_LSR_DATA_READY ? get(UART_DATA) : -1;
}

size_t serial_write(const char *bytes, size_t count)
{
    size_t done = 0;

    /* "Holding register empty" with FIFOs on means that all of the FIFO is. */
    while (done < count && (get(UART_LINE_STATUS) & UART_LSR_TX_EMPTY)) {
        for (int i = 0; i < UART_FIFO_BYTES && done < count; i++) {
            set(UART_DATA, (uint8_t)bytes[done++]);
        }
    }
    return done;
}

void serial_want_room(bool wanted)
{
    set(UART_INTERRUPT_ENABLE, UART_IER_RECEIVED | (wanted ? UART_IER_ROOM : 0));
}

void serial_acknowledge(void)
{
    get(UART_INTERRUPT_IDENTITY); /* takes back "room" */
    sys_irq_ack(own.grants[GRANT_IRQS]);
}
