# Fit rows.csv (y, x1, x2, ...) by flexmix and write what was found; called by rivals.py.
# Rscript flexmix.R rows.csv found.csv n_experts n_starts seed
suppressPackageStartupMessages(library(flexmix))

arguments <- commandArgs(trailingOnly = TRUE)
rows <- read.csv(arguments[1])
n_experts <- as.integer(arguments[3])
n_starts <- as.integer(arguments[4])
set.seed(as.integer(arguments[5]))

features <- paste(setdiff(names(rows), "y"), collapse = " + ")
formula <- as.formula(paste("y ~", features))
gate <- FLXPmultinom(as.formula(paste("~", features)))
control <- list(iter.max = 2000, tolerance = 1e-8)

seconds <- system.time({
  fit <- if (n_starts == 1) {
    flexmix(formula, data = rows, k = n_experts, model = FLXMRglm(), concomitant = gate, control = control)
  } else {
    stepFlexmix(formula, data = rows, k = n_experts, nrep = n_starts, verbose = FALSE,
                model = FLXMRglm(), concomitant = gate, control = control)
  }
})[["elapsed"]]

found <- parameters(fit)                                   # a column a component; the last row is sigma
of_gate <- parameters(fit, which = "concomitant")          # a column a component; the first is zero
n_rows <- nrow(found)
line <- function(name, values) paste(c(name, format(as.vector(values), digits = 17, trim = TRUE)), collapse = ",")
writeLines(c(
  line("coef", found[-n_rows, , drop = FALSE]),
  line("gate", of_gate),
  line("sigma", found[n_rows, ]),
  line("iterations", fit@iter),
  line("converged", as.integer(fit@converged)),
  line("seconds", seconds)
), arguments[2])
