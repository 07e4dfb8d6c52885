#include "textflag.h"

// func dot(a, b []float32) float32
//
// SSE, which every amd64 has: four sums of four, 16 products at a time, then
// four, then one.
TEXT ·dot(SB), NOSPLIT, $0-52
	MOVQ    a_base+0(FP), SI
	MOVQ    a_len+8(FP), CX
	MOVQ    b_base+24(FP), DI
	MOVQ    b_len+32(FP), DX
	CMPQ    DX, CX
	CMOVQLT DX, CX
	XORPS   X0, X0
	XORPS   X1, X1
	XORPS   X2, X2
	XORPS   X3, X3

sixteen:
	SUBQ   $16, CX
	JLT    rest
	MOVUPS (SI), X4
	MOVUPS 16(SI), X5
	MOVUPS 32(SI), X6
	MOVUPS 48(SI), X7
	MOVUPS (DI), X8
	MOVUPS 16(DI), X9
	MOVUPS 32(DI), X10
	MOVUPS 48(DI), X11
	MULPS  X8, X4
	MULPS  X9, X5
	MULPS  X10, X6
	MULPS  X11, X7
	ADDPS  X4, X0
	ADDPS  X5, X1
	ADDPS  X6, X2
	ADDPS  X7, X3
	ADDQ   $64, SI
	ADDQ   $64, DI
	JMP    sixteen

rest:
	ADDQ $16, CX

four:
	SUBQ   $4, CX
	JLT    few
	MOVUPS (SI), X4
	MOVUPS (DI), X8
	MULPS  X8, X4
	ADDPS  X4, X0
	ADDQ   $16, SI
	ADDQ   $16, DI
	JMP    four

few:
	ADDQ  $4, CX
	ADDPS X1, X0
	ADDPS X3, X2
	ADDPS X2, X0

	// The four lanes of X0 into its first.
	MOVHLPS X0, X1
	ADDPS   X1, X0
	MOVAPS  X0, X1
	SHUFPS  $1, X1, X1
	ADDSS   X1, X0

one:
	SUBQ  $1, CX
	JLT   done
	MOVSS (SI), X4
	MULSS (DI), X4
	ADDSS X4, X0
	ADDQ  $4, SI
	ADDQ  $4, DI
	JMP   one

done:
	MOVSS X0, ret+48(FP)
	RET
