# make lessons | full | test | notebooks | student | mutants | bench | gallery | clean     VENV=path chooses another environment

VENV ?= .venv
PYTHON ?= python3
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready-$(firstword $(shell cksum < requirements.txt))
LESSONS := $(sort $(wildcard 0*_*.py))

.PHONY: lessons full test notebooks student mutants bench gallery clean

lessons: $(READY)
	@$(call run_all,--quick)

full: $(READY)
	@$(call run_all,)

test: $(READY)
	$(RUN) -m pytest tests

notebooks: $(READY)
	@mkdir -p outputs/notebooks
	@for lesson in $(LESSONS); do \
		$(RUN) -m jupytext --quiet --set-kernel python3 --execute --run-path . \
			--output outputs/notebooks/$${lesson%.py}.ipynb $$lesson || exit 1; \
		echo "wrote outputs/notebooks/$${lesson%.py}.ipynb"; \
	done

# What students get: the lessons with gaps
student: $(READY)
	$(RUN) exercises/make.py --to student --notebooks

# Wrong answers to every exercise, all of which the tests must notice
mutants: $(READY)
	$(RUN) tests/mutants/run.py

bench: $(READY)
	$(RUN) tests/benchmark.py

# The README's pictures, from figures that `make lessons` wrote
gallery: $(READY)
	@mkdir -p outputs/gallery
	@for pair in 01_vanilla_gradient_saliency/maps:01_maps 03_smoothgrad/statistics:03_statistics \
			04_integrated_gradients/path:04_path 05_gradcam/mosaic:05_mosaic \
			06_guided_backpropagation/randomized:06_randomized 07_guided_gradcam/classes:07_classes \
			08_comparative_analysis/gallery:08_gallery 09_advanced_techniques/rollout:09_rollout; do \
		$(RUN) -c "from PIL import Image; image = Image.open('outputs/$${pair%:*}.png').convert('RGB'); \
			image.thumbnail((1000, 1000)); image.save('outputs/gallery/$${pair#*:}.jpg', quality=85)"; \
	done; ls -l outputs/gallery

clean:
	rm -rf $(filter-out outputs/gallery,$(wildcard outputs/*)) .pytest_cache .ruff_cache __pycache__ tests/__pycache__

$(READY): requirements.txt
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	@echo "installing requirements.txt into $(VENV): about 5.5 GB on Linux, a minute or more"
	$(RUN) -m pip install --quiet -r requirements.txt
	@touch $@

# Every lesson in order, lesson 08 with the options in $(1); a table at the end, and status 1 if one failed.
define run_all
mkdir -p outputs; rows=outputs/.lessons; status=0; : > $$rows; \
for lesson in $(LESSONS); do \
	name=$${lesson%.py}; options=; case $$name in 08_*) options="$(1)";; esac; \
	echo; echo "== $$lesson $$options"; touch outputs/.started; begin=$$(date +%s); \
	if $(RUN) $$lesson $$options; then result=ok; else result=FAILED; status=1; fi; \
	figures=$$(find outputs/$$name -name '*.png' -newer outputs/.started 2>/dev/null | wc -l); \
	printf '%-36s %-7s %8s %8s\n' $$name $$result $$(($$(date +%s) - begin)) $$figures >> $$rows; \
done; \
echo; printf '%-36s %-7s %8s %8s\n' lesson result seconds figures; cat $$rows; rm -f $$rows outputs/.started; exit $$status
endef
