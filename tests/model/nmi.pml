/* SPDX-License-Identifier: MIT */
/*
 * The life of an NMI on one core, step by step, with machine checks and interrupts at every
 * boundary, and breakpoints in an NMI's handler: N3 to N6, E6 and E8. A step is named after the
 * assembly label that it begins at or follows, and its comment says which instruction does it, as
 * `label: words in it`; test_model.py finds each in the kernel, in this order. What C does belongs
 * to the `call`.
 *
 * What must hold is asserted where it matters: where a user instruction retires, where `hlt` goes
 * to sleep, and where an NMI's frame is written. Holes for the test to find: -DHOLE_WINDOW,
 * -DHOLE_IDLE, -DHOLE_UNMASK, -DHOLE_UNMASK_BP, -DHOLE_MASKED, -DHOLE_DISTRUST, -DHOLE_WIPE,
 * -DHOLE_DRAIN.
 */

#ifndef NMIS
#define NMIS 3
#endif
#ifndef MACHINE_CHECKS
#define MACHINE_CHECKS 2
#endif
#ifndef IRQS
#define IRQS 2
#endif
#ifndef BREAKPOINTS
#define BREAKPOINTS 1
#endif

mtype = {
    user, halted, after_hlt,
    syscall_entry_0, syscall_common, fast,
    exit_sysret_check, exit_sysret_commit, exit_sysret_leave, exit_sysret_pending,
    entry_irq, entry_irq_call,
    irq_nested, irq_nested_call, irq_nested_out, irq_nested_leave,
    trap_user, trap_user_sti, trap_user_call,
    ret_to_user, drain, choose,
    exit_iret, exit_iret_check, exit_iret_commit, exit_iret_leave, exit_iret_pending,
    idle, idle_check, idle_state, idle_sti, idle_hlt, idle_pending, idle_interrupted,
    ist_user, ist_user_leave, ist_user_open,
    entry_ist, entry_ist_call, entry_ist_out, entry_ist_leave,
    mcheck_entry, mcheck_call, mcheck_leave, nested_return,
    trap_nested, trap_nested_call, trap_return
};

/* core_state's bytes: the state, as far as it matters here, and the pending bits */
#define NMI 1
#define MC  2
#define IRQ 4
mtype pc = user;
byte nest = 0;
bool state_idle = false;
byte pending = 0;
byte taken = 0; /* drain's copy of it */

/* the CPU */
bool iflag = true, shadow = false, masked = false, mcip = false;

/* frames: one place for each, as there is one stack for each */
mtype nmi_frame = user, irq_frame = user, mc_frame[MACHINE_CHECKS] = user;
bool nmi_if = false, mc_if[MACHINE_CHECKS] = false;
byte depth = 0; /* machine checks inside each other */
bool nmi_live = false, mc_live = false;
bool trap_is_mc = false, saved_idle = false;

/* what came, what was recorded, what was worked on */
byte nmis = 0, counted = 0, worked = 0;
byte mcs = 0, mcs_counted = 0, mcs_worked = 0;
byte irqs = 0, breakpoints = 0;
mtype trap_frame = user;

#define RING3 (pc == user)
#define IN_SYSRET(p) (p == exit_sysret_check || p == exit_sysret_commit || p == exit_sysret_leave)
#define IN_IRET(p) (p == exit_iret_check || p == exit_iret_commit || p == exit_iret_leave)
#define IN_IDLE(p) (p == idle_check || p == idle_state || p == idle_sti || p == idle_hlt)

/* trap.c, restart_exit: what was struck in a window goes back to its first instruction. */
inline restart(frame, interrupts) {
    if
#ifndef HOLE_WINDOW
    :: IN_SYSRET(frame) -> frame = exit_sysret_check; interrupts = false
    :: IN_IRET(frame) -> frame = exit_iret_check; interrupts = false
#endif
#ifndef HOLE_IDLE
    :: IN_IDLE(frame) -> frame = idle_check; interrupts = false
#endif
    :: else -> skip
    fi
}

/* Where the saved RIP points when the core is woken. */
inline interrupted(frame) {
    if
    :: pc == halted -> frame = after_hlt
    :: else -> frame = pc
    fi
}

/*
 * nested_return goes by popfq and lretq where IF was 0 on one of the core's stacks. Below any other
 * RSP, a user's or one in a TCB, nothing may be written.
 */
#define WRITABLE(p) (p != syscall_entry_0 && p != entry_irq && p != exit_sysret_leave && \
                     p != exit_iret_leave)
#ifdef HOLE_DISTRUST
#define ON_CORE_STACK(p) true
#else
#define ON_CORE_STACK(p) WRITABLE(p)
#endif

/* Where NMIs are held back, but for what has come inside. */
#define IN_NMI(p) (p == entry_ist || p == entry_ist_call || p == entry_ist_out || \
                   p == entry_ist_leave || ((p == ist_user || p == ist_user_leave) && masked))

active proctype core()
{
end:
    do
    /* ---- what comes from outside, between any two instructions ---- */

    :: d_step { nmis < NMIS && !masked -> /* vector_2 */
        nmis++;
        masked = true;
        shadow = false;
        assert(!nmi_live); /* a frame that is in use would be overwritten */
        if
        :: RING3 -> pc = ist_user; iflag = false; trap_is_mc = false
        :: else -> interrupted(nmi_frame); nmi_if = iflag; nmi_live = true;
            iflag = false; pc = entry_ist
        fi
    }
    :: d_step { mcs < MACHINE_CHECKS && !mcip -> /* vector_18 */
        mcs++;
        mcip = true;
        shadow = false;
        if
        :: RING3 -> pc = ist_user; iflag = false; trap_is_mc = true
        :: else -> assert(!mc_live); mc_live = true;
            interrupted(mc_frame[depth]); mc_if[depth] = iflag; depth++;
            iflag = false; pc = mcheck_entry
        fi
    }
    :: d_step { irqs < IRQS && iflag && !shadow ->
        irqs++;
        iflag = false;
        if
        :: RING3 -> pc = entry_irq
        :: else -> interrupted(irq_frame); pc = irq_nested
        fi
    }

    :: d_step { breakpoints < BREAKPOINTS && IN_NMI(pc) -> /* vector_3 */
        breakpoints++;
        trap_frame = pc; pc = trap_nested
    }

    /* ---- user mode ---- */

    :: d_step { pc == user ->
        assert(nest == 0 && iflag && !state_idle);
        assert(pending == 0 && worked == nmis && mcs_worked == mcs);
        assert(!masked && !nmi_live && !mc_live);
        iflag = false; /* SFMASK */
        pc = syscall_entry_0
    }

    /* ---- syscall.S ---- */

    :: d_step { pc == syscall_entry_0 -> pc = syscall_common }            /* syscall_entry_0: jmp */
    :: d_step { pc == syscall_common ->                                   /* syscall_common: mov word */
        nest = 1;
#ifdef HOLE_WIPE
        pending = 0; /* the state written by a store that is too wide */
#endif
        pc = fast
    }
    :: d_step { pc == fast -> pc = exit_sysret_check }                    /* syscall_common: call */
    :: d_step { pc == exit_sysret_check ->                                /* exit_sysret_check: cmp byte */
        if
        :: pending -> pc = exit_sysret_pending
        :: else -> pc = exit_sysret_commit
        fi
    }
    :: d_step { pc == exit_sysret_commit -> nest = 0; pc = exit_sysret_leave } /* exit_sysret_check: mov word */
    :: d_step { pc == exit_sysret_leave -> iflag = true; pc = user }      /* exit_sysret_leave: sysretq */
    :: d_step { pc == exit_sysret_pending ->                              /* exit_sysret_pending: sti */
        nest = 1; iflag = true; pc = ret_to_user
    }

    /* ---- entries from user mode and their end: tcb.S, common.S ---- */

    :: d_step { pc == entry_irq -> nest = 1; pc = entry_irq_call }        /* entry_irq: mov word */
    :: d_step { pc == entry_irq_call ->                                   /* entry_irq: call */
        pending = pending | IRQ; iflag = true; pc = ret_to_user
    }
    :: d_step { pc == trap_user -> nest = 1; pc = trap_user_sti }         /* trap_user: mov word */
    :: d_step { pc == trap_user_sti -> iflag = true; pc = trap_user_call } /* trap_user: sti */
    :: d_step { pc == trap_user_call ->                                   /* trap_user: call */
        if
        :: trap_is_mc -> mcs_counted++; pending = pending | MC; mcip = false; trap_is_mc = false
        :: else -> counted++; pending = pending | NMI
        fi;
        pc = ret_to_user
    }
    :: d_step { pc == ret_to_user ->                                      /* ret_to_user: call */
        if
#ifdef HOLE_DRAIN
        :: pending -> taken = pending; pc = drain
#else
        :: pending -> taken = pending; pending = 0; pc = drain
#endif
        :: else -> pc = choose
        fi
    }
    /* In C: core_exit works on what it took, then looks again. */
    :: d_step { pc == drain ->
        if
        :: taken & NMI -> worked = counted
        :: else -> skip
        fi;
        if
        :: taken & MC -> mcs_worked = mcs_counted
        :: else -> skip
        fi;
#ifdef HOLE_DRAIN
        pending = 0; /* forgets what has come meanwhile */
#endif
        taken = 0;
        pc = ret_to_user
    }
    :: pc == choose -> d_step { pc = exit_iret }                          /* ret_to_user: jmp */
    :: pc == choose -> d_step { pc = idle }
    :: d_step { pc == exit_iret -> iflag = false; pc = exit_iret_check }  /* exit_iret: cli */
    :: d_step { pc == exit_iret_check ->                                  /* exit_iret_check: cmp byte */
        if
        :: pending -> pc = exit_iret_pending
        :: else -> pc = exit_iret_commit
        fi
    }
    :: d_step { pc == exit_iret_commit -> nest = 0; pc = exit_iret_leave } /* exit_iret_check: mov word */
    :: d_step { pc == exit_iret_leave -> iflag = true; masked = false; pc = user } /* exit_iret_leave: iretq */
    :: d_step { pc == exit_iret_pending ->                                /* exit_iret_pending: sti */
        nest = 1; iflag = true; pc = ret_to_user
    }

    /* ---- idle: common.S ---- */

    :: d_step { pc == idle -> iflag = false; pc = idle_check }            /* idle: cli */
    :: d_step { pc == idle_check ->                                       /* idle_check: cmp byte */
        if
        :: pending -> pc = idle_pending
        :: else -> pc = idle_state
        fi
    }
    :: d_step { pc == idle_state ->                                       /* idle_check: mov byte */
        state_idle = true; pc = idle_sti
    }
    :: d_step { pc == idle_sti -> iflag = true; shadow = true; pc = idle_hlt } /* idle_check: sti */
    :: d_step { pc == idle_hlt ->                                         /* idle_hlt: hlt */
        assert(pending == 0 && iflag && worked == nmis && mcs_worked == mcs);
        assert(!masked);
        shadow = false; pc = halted
    }
    :: d_step { pc == after_hlt -> iflag = false; pc = idle_check }       /* idle_hlt: cli */
    :: d_step { pc == idle_pending ->                                     /* idle_pending: sti */
        state_idle = false; iflag = true; pc = ret_to_user
    }
    :: d_step { pc == idle_interrupted -> pc = idle_pending }             /* idle_interrupted: jmp */

    /* ---- an interrupt in ring 0: common.S ---- */

    :: d_step { pc == irq_nested ->                                       /* irq_nested: inc byte */
        nest++; saved_idle = state_idle; state_idle = false; pc = irq_nested_call
    }
    :: d_step { pc == irq_nested_call -> pending = pending | IRQ; pc = irq_nested_out } /* irq_nested: call */
    :: d_step { pc == irq_nested_out ->                                   /* irq_nested: dec byte */
        nest--;
        if
        :: saved_idle -> saved_idle = false; irq_frame = user; pc = idle_interrupted
        :: else -> pc = irq_nested_leave
        fi
    }
    :: d_step { pc == irq_nested_leave ->                                 /* irq_nested: iretq */
        iflag = true; masked = false; pc = irq_frame; irq_frame = user
    }

    /* ---- NMI: nmi.S; its stub and the CPU's push are above ---- */

    :: d_step { pc == entry_ist -> nest++; pc = entry_ist_call }          /* entry_ist: inc byte */
    :: d_step { pc == entry_ist_call ->                                   /* entry_ist: call */
        counted++;
        pending = pending | NMI;
        restart(nmi_frame, nmi_if);
        pc = entry_ist_out
    }
    :: d_step { pc == entry_ist_out -> nest--; pc = entry_ist_leave }     /* entry_ist: dec byte */
    :: d_step { pc == entry_ist_leave ->                                  /* entry_ist: iretq */
        masked = false; nmi_live = false; iflag = nmi_if; pc = nmi_frame;
        nmi_if = false; nmi_frame = user
    }
    :: d_step { pc == ist_user -> pc = ist_user_leave }                   /* ist_user: rep movsq */
    :: d_step { pc == ist_user_leave ->                                   /* ist_user: iretq */
#ifndef HOLE_MASKED
        masked = false;
#endif
        pc = ist_user_open
    }
    :: d_step { pc == ist_user_open -> pc = trap_user }                   /* ist_user_open: jmp */

    /* ---- #MC in ring 0, also in the middle of an NMI's handler: nmi.S ---- */

    :: d_step { pc == mcheck_entry -> nest++; pc = mcheck_call }          /* entry_ist: inc byte */
    :: d_step { pc == mcheck_call ->                                      /* entry_ist: call */
        mcs_counted++;
        pending = pending | MC;
        restart(mc_frame[depth - 1], mc_if[depth - 1]);
        nest--;
        pc = mcheck_leave
    }
    /* Its frame is on the interrupted stack, or near the other end of its own: the next may come. */
    :: d_step { pc == mcheck_leave ->                                     /* mcheck_open: wrmsr */
        mcip = false; mc_live = false; pc = nested_return
    }
    :: d_step { pc == nested_return ->                                    /* nested_return: lretq */
        depth--;
#ifdef HOLE_UNMASK
        masked = false;
#else
        if
        :: !mc_if[depth] && ON_CORE_STACK(mc_frame[depth]) -> assert(WRITABLE(mc_frame[depth]))
        :: else -> masked = false
        fi;
#endif
        iflag = mc_if[depth]; pc = mc_frame[depth];
        mc_if[depth] = false; mc_frame[depth] = user
    }

    /* ---- a breakpoint in an NMI's handler, on its stack: common.S, nmi.S ---- */

    :: d_step { pc == trap_nested -> nest++; pc = trap_nested_call }      /* trap_nested: inc byte */
    :: d_step { pc == trap_nested_call -> nest--; pc = trap_return }      /* trap_nested: call */
    :: d_step { pc == trap_return ->                                      /* nested_return: lretq */
#ifdef HOLE_UNMASK_BP
        masked = false;
#endif
        pc = trap_frame; trap_frame = user
    }
    od
}
