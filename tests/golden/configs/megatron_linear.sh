# lawfit: 7B parameters, 1.4T tokens, recipe c4, prediction 5f1c9a8e7b6d4c32
# peak learning rate 6.12e-5 (90 %: 4.30e-5 to 9.00e-5); not knowing better costs 0.23 % of the loss
# batch 4,194,304 tokens = 2,048 sequences of 2,048 = 4 a device x 8 passes x 64 devices
# 333,786 steps of it are 1.4T tokens
# doubt: the target lies 13x beyond the runs

# --micro-batch-size is of one data-parallel rank, of which there are 64
TRAINING_ARGS=(
    --micro-batch-size 4
    --global-batch-size 2048
    --seq-length 2048
    --train-iters 333786
    --lr 6.123e-05
    --min-lr 0.0
    --lr-decay-style linear
    --lr-decay-iters 333786
    --lr-warmup-iters 2000
    --weight-decay 0.1
    --adam-beta1 0.9
    --adam-beta2 0.95
    --adam-eps 1.0e-08
    --clip-grad 1.0
)
