/* SPDX-License-Identifier: MIT */
#include "kernel/arch/uart.h"

#include <stdbool.h>

#include "kernel/arch/cpu.h"

void uart_init(void)
{
    outb(COM1_PORT + UART_INTERRUPT_ENABLE, 0);
    outb(COM1_PORT + UART_LINE_CONTROL, UART_LCR_8N1 | UART_LCR_DLAB);
    outb(COM1_PORT + UART_DATA, UART_DIVISOR_115200);
    outb(COM1_PORT + UART_INTERRUPT_ENABLE, 0);
    outb(COM1_PORT + UART_LINE_CONTROL, UART_LCR_8N1);
    outb(COM1_PORT + UART_FIFO_CONTROL, UART_FCR_ENABLE_CLEAR);
    outb(COM1_PORT + UART_MODEM_CONTROL, UART_MCR_DTR_RTS_OUT2);
}

static bool stuck; /* the last wait was in vain: look once, until a byte goes through again */

static bool wait_for(uint8_t status)
{
    uint32_t polls = stuck ? 1 : UART_POLLS;

    do {
        stuck = !(inb(COM1_PORT + UART_LINE_STATUS) & status);
    } while (stuck && --polls > 0);
    return !stuck;
}

void uart_putc(char c)
{
    if (wait_for(UART_LSR_TX_EMPTY)) {
        outb(COM1_PORT + UART_DATA, (uint8_t)c);
    }
}

void uart_flush(void)
{
    (void)wait_for(UART_LSR_TX_DONE);
}
