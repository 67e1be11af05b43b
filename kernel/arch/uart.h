/* SPDX-License-Identifier: MIT */
/*
 * COM1, a 16550 UART, polled. This is the console of boot and panic; a user driver owns the device
 * in between. Register layout: PC16550D data sheet, section 8.
 */
#ifndef ONESTACK_ARCH_UART_H
#define ONESTACK_ARCH_UART_H

#define COM1_PORT 0x3f8
#define COM1_IRQ  4

#define UART_DATA             0 /* divisor low byte while DLAB is set */
#define UART_INTERRUPT_ENABLE 1 /* divisor high byte while DLAB is set */
#define UART_FIFO_CONTROL     2
#define UART_LINE_CONTROL     3
#define UART_MODEM_CONTROL    4
#define UART_LINE_STATUS      5

#define UART_LCR_8N1          0x03
#define UART_LCR_DLAB         0x80
#define UART_FCR_ENABLE_CLEAR 0x07
#define UART_MCR_DTR_RTS_OUT2 0x0b /* OUT2 gates the interrupt line on a PC */
#define UART_LSR_DATA_READY   0x01
#define UART_LSR_TX_EMPTY     0x20 /* takes the next byte */
#define UART_LSR_TX_DONE      0x40 /* has sent the last one, too */

#define UART_DIVISOR_115200 1

/*
 * Polls of the line status before a byte is given up. An absent UART reads as ready; what makes one
 * wait is a reader that holds the line up (under QEMU, whoever reads the console), for seconds maybe.
 * At a microsecond or less a poll that is as long as anybody should hold up a panic. The assembly
 * of the boot waits a shorter time, since it cannot remember that the line is stuck.
 */
#define UART_POLLS       4000000
#define UART_POLLS_EARLY 100000

#ifndef __ASSEMBLER__

#include <stdint.h>

/* 115200 8n1, FIFOs on, interrupts off. */
void uart_init(void);

/* One raw byte. Given up when the line is stuck; only the first byte then costs the whole wait. */
void uart_putc(char c);

/* Wait, as long at most, until all is on the line: before the machine goes away. */
void uart_flush(void);

#endif

#endif
