"""What scores say: agreement, concentration, controls, intervals, dose and response. Numpy only, no model in sight."""
